"""Makes the golden directories: small random models, and what transformers and PyTorch compute with them.

    python crates/model/tests/golden/make.py [name …]

Needs torch and transformers 4.57. Every directory holds `config.json`, `model.safetensors` and

- `expected.safetensors`: `input_ids [2, 14]`, `logits`, `embed_out`, `resid_post.L` of both rows; `attention_mask` with
  row 1 left-padded by 5 and that row's real tokens alone in `padded_logits_row1`, `padded_resid_post_row1.L`; `greedy`:
  row 0 continued by 12 greedy tokens
- `reference.safetensors`: `attn_out.1`, `resid_mid.1`, `mlp_out.1`, `z.1` as the hooks of this crate mean them; gradients
  of `LOSS`: `grad.resid_pre.L` and `grad.<weight>`

The models of `GIVEN` are kept as they are (they are those of an earlier run); only `reference.safetensors` is made anew.
Where the rotation depends on the length of the sequence, row 1's padded values are those of the row by itself: this crate
lets no row change its neighbour, transformers takes the longest row's rotation for the whole batch.
"""

import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
GIVEN = ["qwen2", "qwen3", "llama3", "mistral-window"]
PADDING = 5
# row, position, token (modulo the vocabulary), weight: the loss is the weighted sum of negative log-likelihoods, in nats.
LOSS = [(0, 13, 17, 0.7), (0, 3, 4, 0.2), (1, 12, 3, 1.0), (1, 5, 90, -0.4)]

SMALL = dict(
    vocab_size=97, hidden_size=32, intermediate_size=40, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2,
)
PARTS = [0.3, 1.7, 2.5, 0.9, 1.2, 3.1]
MODELS = {
    "qwen2-window": ("Qwen2", dict(
        use_sliding_window=True, sliding_window=4, max_window_layers=1, tie_word_embeddings=False, rope_theta=1e6)),
    "qwen2-yarn": ("Qwen2", dict(
        rope_scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8}, tie_word_embeddings=True)),
    "qwen3-bias": ("Qwen3", dict(
        head_dim=12, attention_bias=True, num_key_value_heads=4, tie_word_embeddings=False)),
    "llama-linear-bias": ("Llama", dict(
        attention_bias=True, mlp_bias=True, head_dim=12, num_key_value_heads=1,
        rope_scaling={"rope_type": "linear", "factor": 2.5}, tie_word_embeddings=True)),
    "llama-dynamic": ("Llama", dict(
        max_position_embeddings=10, rope_scaling={"rope_type": "dynamic", "factor": 3.0}, num_key_value_heads=4)),
    "llama-yarn": ("Llama", dict(rope_scaling={
        "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 6, "beta_fast": 4.0, "beta_slow": 0.5,
        "mscale": 0.7, "mscale_all_dim": 0.4, "truncate": False})),
    "gemma2": ("Gemma2", dict(
        head_dim=12, query_pre_attn_scalar=20, sliding_window=4, attn_logit_softcapping=2.0, final_logit_softcapping=3.0)),
    "gemma3": ("Gemma3", dict(
        head_dim=12, query_pre_attn_scalar=16, sliding_window=4, num_hidden_layers=4, sliding_window_pattern=3,
        rope_theta=1e6, rope_local_base_freq=1e4, rope_scaling={"rope_type": "linear", "factor": 8.0})),
    "phi3": ("Phi3", dict(sliding_window=6)),
    "phi3-longrope": ("Phi3", dict(
        hidden_size=64, intermediate_size=24, partial_rotary_factor=0.75, num_hidden_layers=2, original_max_position_embeddings=16,
        rope_scaling={"type": "longrope", "short_factor": [1 + p / 9 for p in PARTS], "long_factor": [1 + p for p in PARTS]})),
    "phi3-long": ("Phi3", dict(
        num_hidden_layers=2, original_max_position_embeddings=11,
        rope_scaling={"type": "longrope", "short_factor": PARTS[:4], "long_factor": [1 + p for p in PARTS[:4]]})),
    "olmo2": ("Olmo2", dict(tie_word_embeddings=False, rope_theta=5e5)),
    "olmo3": ("Olmo3", dict(
        num_hidden_layers=4, sliding_window=4, rope_scaling={
            "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8, "attention_factor": 1.2})),
}
LENGTH_DEPENDENT = ["llama-dynamic", "phi3-long", "phi3-longrope"]


def make_model(name):
    """A model whose weights are large enough for every cap, window and norm to matter."""
    family, settings = MODELS[name]
    kind = {"Gemma3": "Gemma3TextConfig"}.get(family, f"{family}Config")
    settings = {key: value for key, value in {**SMALL, **settings}.items()}
    config = getattr(transformers, kind)(**settings)
    config._attn_implementation = "eager"
    model = getattr(transformers, f"{family}ForCausalLM")(config).float().eval()
    torch.manual_seed(sum(map(ord, name)))
    with torch.no_grad():
        for key, weight in model.named_parameters():
            noise = torch.randn_like(weight)
            if "norm" in key:
                weight.copy_(0.2 * noise + (0.0 if family.startswith("Gemma") else 1.0))
            else:
                weight.copy_(noise * (0.2 if weight.dim() == 2 else 0.1))
    return model


def seen(model, inputs):
    """Logits, and the activations at this crate's hooks with their gradients kept."""
    kept, handles = {}, []
    blocks = model.model.layers
    sandwich, behind = hasattr(blocks[0], "pre_feedforward_layernorm"), hasattr(blocks[0], "post_feedforward_layernorm")

    def first(value):
        return value[0] if isinstance(value, tuple) else value

    def keep(name, value):
        if value.requires_grad:
            value.retain_grad()
        kept[name] = value

    def outputs(module, name):
        handles.append(module.register_forward_hook(lambda _, __, out: keep(name, first(out))))

    def inputs_of(module, name):
        def hook(_, args, kwargs):
            keep(name, args[0] if args else kwargs["hidden_states"])
        handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    for index, block in enumerate(blocks):
        inputs_of(block, f"resid_pre.{index}")
        inputs_of(block.self_attn.o_proj, f"z.{index}")
        outputs(block.post_attention_layernorm if behind else block.self_attn, f"attn_out.{index}")
        before_mlp = block.pre_feedforward_layernorm if sandwich else block.mlp if behind else block.post_attention_layernorm
        inputs_of(before_mlp, f"resid_mid.{index}")
        outputs(block.post_feedforward_layernorm if behind else block.mlp, f"mlp_out.{index}")
        outputs(block, f"resid_post.{index}")
    logits = model(**inputs, use_cache=False).logits
    for handle in handles:
        handle.remove()
    return logits, kept


def load(name):
    """The model as its directory holds it: `dynamic` rotation remembers the longest sequence a model object has seen."""
    return AutoModelForCausalLM.from_pretrained(HERE / name, attn_implementation="eager").float().eval()


def continued(name, ids):
    """Row 0 with 12 greedy tokens.

    `phi3-longrope` outgrows its context on the way: there transformers computes the keys again, but under a mask that lets
    every position see all of them; so every token is taken from a pass of its own.
    """
    model = load(name)
    if name != "phi3-longrope":
        return model.generate(
            ids, max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0, attention_mask=torch.ones_like(ids))
    for _ in range(12):
        likeliest = model(ids, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)
        ids = torch.cat([ids, likeliest], 1)
    return ids


def expected(name, ids):
    """What `expected.safetensors` holds."""
    model = load(name)
    layers = range(model.config.num_hidden_layers)
    mask = torch.ones_like(ids)
    mask[1, :PADDING] = 0
    alone = name in LENGTH_DEPENDENT
    with torch.no_grad():
        logits, kept = seen(model, {"input_ids": ids})
        if alone:
            padded, real = {"input_ids": ids[1:, PADDING:]}, lambda x: x[0]
        else:
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            padded = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
            real = lambda x: x[1, PADDING:]
        padded_logits, padded_kept = seen(load(name), padded)
        greedy = continued(name, ids[:1])
    tensors = {
        "input_ids": ids, "attention_mask": mask, "greedy": greedy[0, ids.shape[1]:],
        "logits": logits, "embed_out": kept["resid_pre.0"], "padded_logits_row1": real(padded_logits),
    }
    for layer in layers:
        tensors[f"resid_post.{layer}"] = kept[f"resid_post.{layer}"]
        tensors[f"padded_resid_post_row1.{layer}"] = real(padded_kept[f"resid_post.{layer}"])
    return tensors


def reference(name, ids):
    """What `reference.safetensors` holds."""
    model = load(name)
    logits, kept = seen(model, {"input_ids": ids})
    nll = -torch.log_softmax(logits, -1)
    vocab = logits.shape[-1]
    sum(weight * nll[row, position, token % vocab] for row, position, token, weight in LOSS).backward()
    tensors = {f"{site}.1": kept[f"{site}.1"] for site in ["attn_out", "resid_mid", "mlp_out", "z"]}
    for layer in range(model.config.num_hidden_layers):
        tensors[f"grad.resid_pre.{layer}"] = kept[f"resid_pre.{layer}"].grad
    for key, weight in model.named_parameters():
        tensors[f"grad.{key}"] = weight.grad
    return tensors


def write(path, tensors):
    save_file({key: value.detach().contiguous().clone() for key, value in tensors.items()}, path)
    path.chmod(0o644)


def main(names):
    for name in names or [*GIVEN, *MODELS]:
        directory = HERE / name
        if name in GIVEN:
            ids = load_file(directory / "expected.safetensors")["input_ids"].long()
        else:
            make_model(name).save_pretrained(directory)
            generator = torch.Generator().manual_seed(7)
            ids = torch.randint(3, SMALL["vocab_size"], (2, 14), generator=generator)
            write(directory / "expected.safetensors", expected(name, ids))
        write(directory / "reference.safetensors", reference(name, ids))
        print(name, sum(file.stat().st_size for file in directory.iterdir()) // 1024, "KiB")


main(sys.argv[1:])
