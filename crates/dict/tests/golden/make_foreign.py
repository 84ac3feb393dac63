"""Small random dictionaries in the files of other programs, with the codes and reconstructions those programs compute.

    python make_foreign.py OUT [--clones DIR]

Needs PyPI's sae-lens, dictionary-learning and eai-sparsify. The programs that are not on PyPI are read from git clones in
DIR, named owner+repository (science-of-finetuning+crosscoder_learning, superkaiba+dfc_learning, ...); what is missing is
passed over with a line. Every folder gets expected.safetensors: x [rows, n_models, d_model] (or x_0, x_1, ... where widths
differ), f [rows, n_features] ([rows, n_models, n_features] for decoupled codes), y shaped as x.
"""

import argparse
import importlib
import json
import os
import sys
import types
from pathlib import Path

import torch
from safetensors.torch import save_file

ROWS, N, D, F, K = 32, 2, 6, 20, 3


def rows(n_models=N, d=D):
    return torch.randn(ROWS, n_models, d) * 2 + 0.5


def expected(folder, **tensors):
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.detach().float().contiguous() for k, v in tensors.items()}, folder / "expected.safetensors")


def randomise(module):
    """Fills every float parameter; zeros would hide a bias that is used wrongly."""
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn_like(p) * 0.4)


def package(alias, folder):
    """A package whose modules are found in a folder under another name."""
    module = types.ModuleType(alias)
    module.__path__ = [str(folder)]
    sys.modules[alias] = module
    return lambda name: importlib.import_module(f"{alias}.{name}")


def stub(name, **attributes):
    if name not in sys.modules:
        module = types.ModuleType(name)
        module.__dict__.update(attributes)
        sys.modules[name] = module


# ------------------------------------------------------------------------------------------------ crosscoders


def crosscoder_learning(out, clones):
    load = package("ccl", clones / "science-of-finetuning+crosscoder_learning" / "dictionary_learning")
    d = load("dictionary")
    plain = d.CrossCoder(D, F, N, code_normalization="MIXED")
    randomise(plain)
    x = rows()
    f = plain.encode(x)
    folder = out / "crosscoder_learning_l1"
    expected(folder, x=x, f=f, y=plain.decode(f))
    # A training folder: state dict alone, saved while compiled, settings under "trainer".
    torch.save({"_orig_mod." + k: v for k, v in plain.state_dict().items()}, folder / "model_final.pt")
    (folder / "config.json").write_text(json.dumps({"trainer": {"dict_class": "CrossCoder", "l1_penalty": 0.041, "code_normalization": "mixed"}}))
    sae = d.BatchTopKSAE(D, F, K, activation_mean=torch.randn(D), activation_std=torch.rand(D) + 0.5, target_rms=2.0)
    randomise(sae)
    sae.threshold.fill_(1.1)
    x = rows(1)
    f = sae.encode(x[:, 0])
    folder = out / "crosscoder_learning_sae"
    expected(folder, x=x, f=f, y=sae.decode(f)[:, None])
    sae.save_pretrained(folder, config={"activation_dim": D, "dict_size": F, "k": K})


def opd(out, _clones):
    """Not installable: the forward pass of HeterogeneousCrossCoder (commit 4a61088) written out."""
    widths = [6, 4, 5]
    enc = [torch.randn(F, w) * 0.4 for w in widths]
    dec = [torch.randn(w, F) * 0.4 for w in widths]
    bias, dec_bias = torch.randn(F) * 0.3, [torch.randn(w) for w in widths]
    mean, std = [torch.randn(w) for w in widths], [torch.rand(w) + 0.5 for w in widths]
    scale = [1.0 / torch.sqrt(s.square().sum() + 1e-8) for s in std]
    x = [torch.randn(ROWS, w) * 2 + 0.5 for w in widths]
    pre = torch.relu(sum(((v - m) * s) @ e.T for v, m, s, e in zip(x, mean, scale, enc)) + bias)
    norm = sum(w.norm(dim=0) for w in dec)
    threshold = torch.tensor(1.5)
    f = pre * (pre * norm > threshold)
    y = [(f @ w.T + b) / (s + 1e-8) + m for w, b, s, m in zip(dec, dec_bias, scale, mean)]
    folder = out / "opd"
    expected(folder, f=f, **{f"x_{i}": v for i, v in enumerate(x)}, **{f"y_{i}": v for i, v in enumerate(y)})
    state = {
        "activation_dims_tensor": torch.tensor(widths),
        "code_normalization_id": torch.tensor(1),
        "encoder.bias": bias,
        "normalizer.target_rms": torch.tensor(1.0),
        "k": torch.tensor(K),
        "threshold": threshold,
    }
    for i in range(len(widths)):
        state |= {
            f"encoder.projections.{i}.weight": enc[i],
            f"decoder.projections.{i}.weight": dec[i],
            f"decoder.projections.{i}.bias": dec_bias[i],
            f"normalizer.mean_{i}": mean[i],
            f"normalizer.std_{i}": std[i],
            f"normalizer.scale_{i}": scale[i],
        }
    torch.save(state, folder / "model_final.pt")


def dfc(out, clones):
    load = package("dfc", clones / "superkaiba+dfc_learning" / "dictionary_learning")
    d = load("dictionary")
    cc = d.DedicatedFeatureBatchTopKCrossCoder(D, F, N, K, model_a_exclusive_pct=0.1, model_b_exclusive_pct=0.15)
    randomise(cc)
    cc.encoder._initialize_masked_weights()
    cc.decoder._initialize_masked_weights()
    cc.threshold.fill_(2.0)
    x = rows()
    f = cc.encode(x)
    folder = out / "dfc"
    expected(folder, x=x, f=f, y=cc.decode(f))
    torch.save(cc.state_dict(), folder / "model_final.pt")
    (folder / "config.json").write_text(json.dumps({"trainer": {"dict_class": type(cc).__name__}}))


def antebe(out, clones):
    source = (clones / "Antebe+model_diffing_crosscoders" / "sweep_eval.py").read_text()
    start, end = source.index("class DFCCrossCoder"), source.index("# CROSSCODER LOADER")
    space = {"torch": torch, "nn": torch.nn, "F": torch.nn.functional}
    exec(source[start : source.rindex("# ──", start, end)], space)
    cc = space["DFCCrossCoder"](D, F, K, 0.1, 0.1)
    randomise(cc)
    cc._apply_masks()
    x = rows()
    y, f = cc(x)
    folder = out / "dfc_masked"
    expected(folder, x=x, f=f, y=y)
    torch.save(cc.state_dict(), folder / "model.pt")
    (folder / "config.json").write_text(json.dumps({"activation_dim": D, "dict_size": F, "k": K, "n_a": cc.n_a, "n_b": cc.n_b}))


def ckkissane(out, clones):
    import einops

    space = {"torch": torch, "nn": torch.nn, "F": torch.nn.functional, "einops": einops, "json": json, "Path": Path}
    space |= {"hf_hub_download": None}
    text = (clones / "ckkissane+crosscoder-model-diff-replication" / "crosscoder.py").read_text()
    exec(text.replace("from utils import *", ""), space)
    cfg = {"seed": 1, "d_in": D, "dict_size": F, "enc_dtype": "fp32", "device": "cpu", "dec_init_norm": 0.08, "l1_coeff": 2, "hook_point": "blocks.14.hook_resid_pre"}
    cc = space["CrossCoder"](cfg)
    randomise(cc)
    scales = torch.tensor([0.25, 0.4])
    x = rows()
    f = cc.encode(x * scales[None, :, None])
    folder = out / "ckkissane"
    expected(folder, x=x, f=f, y=cc.decode(f) / scales[None, :, None])
    torch.save(cc.state_dict(), folder / "cc_weights.pt")
    (folder / "cfg.json").write_text(json.dumps(cfg))


def bayazit(out, clones):
    import einops

    space = {"torch": torch, "nn": torch.nn, "F": torch.nn.functional, "einops": einops, "json": json, "Path": Path}
    text = (clones / "bayazitdeniz+crosscoding-through-time" / "crosscoder.py").read_text()
    exec(text.replace("from utils import *", ""), space)
    scales = [0.3, 0.5, 0.7]
    cfg = {"seed": 1, "d_in": D, "dict_size": F, "n_models": 3, "enc_dtype": "fp32", "device": "cpu", "dec_init_norm": 0.08}
    cfg |= {"batch_topk_init": K, "hook_point": "model.layers.3", "revision_list": ["step1000", "step2000", "step3000"], "estimated_act_norm_list": scales}
    cc = space["BatchTopKCrossCoder"](cfg).eval()
    randomise(cc)
    cc.threshold.fill_(2.0)
    x = rows(3)
    g = torch.tensor(scales)[None, :, None]
    f = cc.encode(x * g)
    folder = out / "bayazit"
    expected(folder, x=x, f=f, y=cc.decode(f) / g)
    torch.save(cc.state_dict(), folder / "5.pt")
    (folder / "5_cfg.json").write_text(json.dumps(cfg))


def crosscode(out, clones):
    sys.path.insert(0, str(clones / "oli-clive-griffin+crosscode"))
    import logging

    stub("crosscode", __path__=[str(clones / "oli-clive-griffin+crosscode" / "crosscode")])
    stub("crosscode.log", logger=logging.getLogger("crosscode"))
    stub("crosscode.models", __path__=[str(clones / "oli-clive-griffin+crosscode" / "crosscode" / "models")])
    from crosscode.models.acausal_crosscoder import ModelHookpointAcausalCrosscoder
    from crosscode.models.activations.jumprelu import AnthropicSTEJumpReLUActivation
    from crosscode.models.activations.topk import TopkActivation

    for name, activation in [("crosscode_jumprelu", AnthropicSTEJumpReLUActivation(F, 2.0, -0.5)), ("crosscode_topk", TopkActivation(K))]:
        cc = ModelHookpointAcausalCrosscoder(N, 1, D, F, activation)
        randomise(cc)
        if name == "crosscode_jumprelu":
            cc.activation_fn.log_threshold_L.data.sub_(0.2)
        scales = torch.tensor([[0.25], [0.4]])
        cc = cc.with_folded_scaling_factors(scales)
        x = rows()
        res = cc.forward_train(x[:, :, None])
        expected(out / name, x=x, f=res.latents_BL, y=res.recon_acts_BMPD[:, :, 0])
        cc.save(out / name)


def openmoss(out, clones):
    sys.path.insert(0, str(clones / "OpenMOSS+Language-Model-SAEs" / "src"))
    root = clones / "OpenMOSS+Language-Model-SAEs" / "src" / "llamascopium"
    stub("llamascopium", __path__=[str(root)])
    stub("llamascopium.models", __path__=[str(root / "models")])
    from llamascopium.models.crosscoder import Crosscoder, CrosscoderConfig

    for act_fn in ["jumprelu", "topk"]:
        hooks = [f"blocks.3.hook_resid_post.step{i}" for i in range(3)]
        cfg = CrosscoderConfig(hook_points=hooks, d_model=D, expansion_factor=F / D + 1e-9, act_fn=act_fn, top_k=K, norm_activation="dataset-wise")
        cc = Crosscoder(cfg)
        randomise(cc)
        if act_fn == "jumprelu":
            cc.activation_function.log_jumprelu_threshold.data.normal_(std=0.5)
        cc.set_dataset_average_activation_norm({hook: 5.0 + i for i, hook in enumerate(hooks)})
        x = rows(3)
        scaled, factors = cc.normalize_activations({hook: x[:, i] for i, hook in enumerate(hooks)}, return_scale_factor=True)
        f = cc.encode(torch.stack([scaled[hook] for hook in hooks], dim=1))
        y = cc.decode(f)
        y = torch.stack([y[:, i] / factors[hook] for i, hook in enumerate(hooks)], dim=1)
        folder = out / f"openmoss_{act_fn}"
        expected(folder, x=x, f=f, y=y)
        save_file({k: v.contiguous() for k, v in cc.full_state_dict().items()}, folder / "sae_weights.safetensors")
        cc.cfg.save_hyperparameters(folder)


# ------------------------------------------------------------------------------------------------ one model


def sae_lens(out, _clones):
    from sae_lens import SAE
    from sae_lens.registry import get_sae_class

    for name, extra in [
        ("standard", {}),
        ("jumprelu", {"apply_b_dec_to_input": False}),
        ("topk", {"k": K, "rescale_acts_by_decoder_norm": True}),
        ("gated", {}),
    ]:
        cls, config = get_sae_class(name)
        sae = cls(config(d_in=D, d_sae=F, **extra))
        sae.cfg.metadata.hook_name = "blocks.2.hook_resid_post"
        randomise(sae)
        if name == "jumprelu":
            sae.threshold.data = torch.rand(F)
        folder = out / f"sae_lens_{name}"
        sae.save_model(folder)
        sae = SAE.load_from_disk(folder)
        x = rows(1)
        f = sae.encode(x[:, 0])
        expected(folder, x=x, f=f, y=sae.decode(f)[:, None])


def dictionary_learning(out, _clones):
    from dictionary_learning.dictionary import AutoEncoder, AutoEncoderNew, GatedAutoEncoder, JumpReluAutoEncoder
    from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
    from dictionary_learning.trainers.top_k import AutoEncoderTopK

    makes = {
        "standard": lambda: AutoEncoder(D, F),
        "new": lambda: AutoEncoderNew(D, F),
        "gated": lambda: GatedAutoEncoder(D, F),
        "jumprelu": lambda: JumpReluAutoEncoder(D, F),
        "topk": lambda: AutoEncoderTopK(D, F, K),
        "batch_topk": lambda: BatchTopKSAE(D, F, K),
        "matryoshka": lambda: MatryoshkaBatchTopKSAE(D, F, K, [5, F - 5]),
    }
    for name, make in makes.items():
        sae = make()
        randomise(sae)
        if name == "jumprelu":
            sae.threshold.data = torch.rand(F)
        if name in ("batch_topk", "matryoshka"):
            sae.threshold.fill_(0.9)
        x = rows(1)
        f = sae.encode(x[:, 0])
        folder = out / f"dictionary_learning_{name}"
        expected(folder, x=x, f=f, y=sae.decode(f)[:, None])
        torch.save(sae.state_dict(), folder / "ae.pt")
        trainer = {"dict_class": type(sae).__name__, "activation_dim": D, "dict_size": F, "submodule_name": "resid_post_layer_7"}
        (folder / "config.json").write_text(json.dumps({"trainer": trainer | ({"k": K} if "topk" in name else {})}))


def sparsify(out, _clones):
    os.environ["SPARSIFY_DISABLE_TRITON"] = "1"
    from sparsify import SparseCoder, SparseCoderConfig

    sae = SparseCoder(D, SparseCoderConfig(num_latents=F, k=K, normalize_decoder=False))
    randomise(sae)
    folder = out / "layers.5"
    sae.save_to_disk(folder)
    sae = SparseCoder.load_from_disk(folder)
    x = rows(1)
    acts, indices, _ = sae.encode(x[:, 0])
    f = torch.zeros(ROWS, F).scatter_(1, indices, acts)
    expected(folder, x=x, f=f, y=sae.decode(acts, indices)[:, None])


# ------------------------------------------------------------------------------------------------ an activation cache


def cache(out, clones):
    stub("nnsight", LanguageModel=None)
    c = package("ccl_cache", clones / "science-of-finetuning+crosscoder_learning" / "dictionary_learning")("cache")
    tokens = torch.arange(50) % 17
    starts = torch.tensor([0, 12, 13, 40, 50])
    for label, width, dtype in [("base", 6, torch.bfloat16), ("rl", 4, torch.float32)]:
        store = out / "cache" / label
        layer = store / "layer_3_out"
        layer.mkdir(parents=True)
        x = (torch.randn(50, width) * 3).to(dtype)
        stats = c.RunningStatWelford((width,))
        for i, (a, b) in enumerate([(0, 21), (21, 50)]):
            c.save_shard(x[a:b], str(layer), i, "layer_3", "out")
            stats.update(x[a:b])
        stats.save_state(str(layer))
        torch.save(stats.std(), layer / "std.pt")
        (layer / "config.json").write_text(json.dumps({"batch_size": 4, "context_len": 32, "shard_size": 20, "d_model": width, "shuffle_shards": False, "io": "out", "total_size": 50, "shard_count": 2, "store_tokens": True, "store_sequence_ranges": True}))
        torch.save(tokens, store / "tokens.pt")
        torch.save(starts, store / "sequence_ranges.pt")
        whole = c.ActivationCache(str(store), "layer_3_out")
        expected(out / "cache" / label, x=torch.stack([whole[i] for i in range(50)]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--clones", type=Path, default=Path("clones"))
    args = parser.parse_args()
    for make in [crosscoder_learning, opd, dfc, antebe, ckkissane, bayazit, crosscode, openmoss, sae_lens, dictionary_learning, sparsify, cache]:
        torch.manual_seed(len(make.__name__))
        try:
            make(args.out, args.clones)
            print("made", make.__name__)
        except (ImportError, FileNotFoundError) as error:
            print(f"passed over {make.__name__}: {error}")


if __name__ == "__main__":
    main()
