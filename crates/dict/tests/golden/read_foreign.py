"""Loads a dictionary with the program it was written for, and writes the codes and reconstructions it computes.

    python read_foreign.py FORMAT FOLDER X.safetensors OUT.safetensors [CLONES]

X holds x [rows, n_models, d_model], OUT gets f and y as make_foreign.py describes them. Without the program: exit 3.
"""

import json
import os
import sys
from pathlib import Path

os.environ["SPARSIFY_DISABLE_TRITON"] = "1"

import torch
from safetensors.torch import load_file, save_file

from make_foreign import package, stub


def crosscoder_learning(folder, x, clones):
    d = package("ccl", clones / "science-of-finetuning+crosscoder_learning" / "dictionary_learning")("dictionary")
    name = json.loads((folder / "config.json").read_text())["dict_class"]
    cc = getattr(d, name).from_pretrained(str(folder), from_hub=True)
    f = cc.encode(x)
    return f, cc.decode(f)


def opd(folder, x, _clones):
    """Not installable: the names HeterogeneousCrossCoder (commit 4a61088) loads, all and no other, and its forward pass."""
    state = torch.load(folder / "model_final.pt", map_location="cpu", weights_only=True)
    widths = state["activation_dims_tensor"].tolist()
    names = ["encoder.projections.{}.weight", "decoder.projections.{}.weight", "decoder.projections.{}.bias"]
    names += ["normalizer.mean_{}", "normalizer.std_{}", "normalizer.scale_{}"]
    enc, dec, dec_bias, mean, std, scale = ([state.pop(name.format(i)) for i in range(len(widths))] for name in names)
    shared = {"activation_dims_tensor", "code_normalization_id", "encoder.bias", "normalizer.target_rms"}
    assert set(state) in (shared, shared | {"k", "threshold"}), sorted(state)
    bias, size = state["encoder.bias"], len(state["encoder.bias"])
    for i, width in enumerate(widths):
        assert enc[i].shape == (size, width) and dec[i].shape == (width, size) and dec_bias[i].shape == (width,)
        assert mean[i].shape == std[i].shape == (width,) and scale[i].shape == ()
    assert state["code_normalization_id"].item() == 1 and state["code_normalization_id"].dtype == torch.long
    if any(m.isnan().any() for m in mean):
        mean, scale = [torch.zeros(width) for width in widths], [torch.ones(())] * len(widths)
        undo = scale
    else:
        undo = [s + 1e-8 for s in scale]
    f = torch.relu(sum(((x[:, i] - mean[i]) * scale[i]) @ enc[i].T for i in range(len(widths))) + bias)
    if "threshold" in state:
        f = f * (f * sum(w.norm(dim=0) for w in dec) > state["threshold"])
    return f, torch.stack([(f @ dec[i].T + dec_bias[i]) / undo[i] + mean[i] for i in range(len(widths))], dim=1)


def dfc(folder, x, clones):
    d = package("dfc", clones / "superkaiba+dfc_learning" / "dictionary_learning")("dictionary")
    name = json.loads((folder / "config.json").read_text())["trainer"]["dict_class"]
    cc = getattr(d, name).from_pretrained(str(folder / "model_final.pt"))
    assert max(v for part in cc.verify_partition_integrity().values() for v in part.values()) == 0
    f = cc.encode(x)
    return f, cc.decode(f)


def ckkissane(folder, x, clones):
    import einops

    cfg = json.loads((folder / "cfg.json").read_text())
    space = {"torch": torch, "nn": torch.nn, "F": torch.nn.functional, "einops": einops, "json": json, "Path": Path}
    text = (clones / "bayazitdeniz+crosscoding-through-time" / "crosscoder.py").read_text()
    exec(text.replace("from utils import *", ""), space)
    cc = space["BatchTopKCrossCoder" if cfg["batch_topk_init"] else "CrossCoder"](cfg).eval()
    cc.load_state_dict(torch.load(folder / "cc_weights.pt"))
    g = torch.tensor(cfg["estimated_act_norm_list"])[None, :, None]
    f = cc.encode(x * g)
    return f, cc.decode(f) / g


def crosscode(folder, x, clones):
    import logging

    root = clones / "oli-clive-griffin+crosscode" / "crosscode"
    stub("crosscode", __path__=[str(root)])
    stub("crosscode.log", logger=logging.getLogger("crosscode"))
    stub("crosscode.models", __path__=[str(root / "models")])
    from crosscode.models.acausal_crosscoder import ModelHookpointAcausalCrosscoder

    res = ModelHookpointAcausalCrosscoder.load(folder).forward_train(x[:, :, None])
    return res.latents_BL, res.recon_acts_BMPD[:, :, 0]


def openmoss(folder, x, clones):
    root = clones / "OpenMOSS+Language-Model-SAEs" / "src" / "llamascopium"
    stub("llamascopium", __path__=[str(root)])
    stub("llamascopium.models", __path__=[str(root / "models")])
    from llamascopium.models.crosscoder import Crosscoder, CrosscoderConfig

    cc = Crosscoder(CrosscoderConfig(**json.loads((folder / "config.json").read_text())))
    cc.load_full_state_dict(load_file(folder / "sae_weights.safetensors"))
    hooks = cc.cfg.hook_points
    scaled, factors = cc.normalize_activations({h: x[:, i] for i, h in enumerate(hooks)}, return_scale_factor=True)
    f = cc.encode(torch.stack([scaled[h] for h in hooks], dim=1))
    y = cc.decode(f)
    return f, torch.stack([y[:, i] / factors[h] for i, h in enumerate(hooks)], dim=1)


def sae_lens(folder, x, _clones):
    from sae_lens import SAE

    sae = SAE.load_from_disk(folder)
    f = sae.encode(x.flatten(1))
    return f, sae.decode(f).view_as(x)


def dictionary_learning(folder, x, _clones):
    from dictionary_learning.dictionary import AutoEncoder
    from dictionary_learning.utils import load_dictionary

    # Its loader scales decoder rows to norm 1 by default, and the codes with them.
    AutoEncoder.from_pretrained.__func__.__defaults__ = (torch.float, None, False)
    sae, _ = load_dictionary(str(folder), "cpu")
    f = sae.encode(x.flatten(1))
    return f, sae.decode(f).view_as(x)


def sparsify(folder, x, _clones):
    from sparsify import SparseCoder

    sae = SparseCoder.load_from_disk(folder)
    acts, indices, _ = sae.encode(x.flatten(1))
    f = torch.zeros(len(x), sae.num_latents).scatter_(1, indices, acts)
    return f, sae.decode(acts, indices).view_as(x)


def main():
    name, folder, x, out, *clones = sys.argv[1:]
    try:
        with torch.no_grad():
            f, y = globals()[name](Path(folder), load_file(x)["x"], Path(clones[0] if clones else "clones"))
    except (ImportError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        sys.exit(3)
    save_file({"f": f.float().contiguous(), "y": y.float().contiguous()}, out)


main()
