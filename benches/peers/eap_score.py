"""Head-level edge attribution: ours beside a plain pass of ours, and beside auto-circuit on TransformerLens, in turns.

    cargo bench -p eap --bench eap --no-run        # prints the path of the binary
    python benches/peers/eap_score.py --binary target/release/deps/eap-... [--positions 32,128] [--rounds 3] [--no-peer]

`plain` is a forward pass with the logits of all positions and a reverse pass with frozen weights, `lean` the same with the logits
the loss reads, `weights` a plain one with the gradients of the weights, as training has it and as every peer computes it; `torch`
is that of TransformerLens. Needs torch, transformer-lens 2.18 (`pyarrow<20`) and auto-circuit 1.0.1 (`--no-deps`) for the peer. One pair of prompts, f32,
a random model of 24 layers, d 896, 14 heads on 2 key/value heads, 64,000 tokens. Times are medians of a process's rounds
after the first, then medians over processes run in turns; memory is the highest of a process, weights included.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODES = ["plain", "lean", "weights", "eap", "ig"]


def ours(binary, mode, directory, positions, rounds):
    command = [binary, mode, directory, "--positions", str(positions), "--rounds", str(rounds)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peer_process(positions, rounds, mode):
    command = [sys.executable, __file__, "--peer", mode, "--positions", str(positions), "--rounds", str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return {"seconds": float("nan"), "peak_mb": float("nan"), "error": done.stderr.strip().splitlines()[-1:]}
    return json.loads(done.stdout.splitlines()[-1])


def peer(mode, positions, rounds):
    import torch
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    torch.manual_seed(0)
    model = HookedTransformer(
        HookedTransformerConfig(
            n_layers=24, d_model=896, n_ctx=2048, d_head=64, n_heads=14, n_key_value_heads=2, d_mlp=4864,
            d_vocab=64_000, act_fn="silu", gated_mlp=True, normalization_type="RMS", positional_embedding_type="rotary",
            rotary_dim=64, final_rms=True, use_attn_result=True, use_split_qkv_input=True, use_hook_mlp_in=True,
            ungroup_grouped_query_attention=True, default_prepend_bos=False, device="cpu", seed=0,
        )
    )
    tokens = torch.tensor([[2 + (7919 * place) % 63_998 for place in range(positions)]])
    other = tokens.clone()
    other[0, 1] = 11
    if mode == "torch":
        model.set_use_attn_result(False)
        model.set_use_split_qkv_input(False)
        model.set_use_hook_mlp_in(False)

        def round_():
            model.zero_grad()
            logits = model(tokens)[0, -1]
            (logits[200] - logits[100]).backward()
    else:
        from auto_circuit.data import PromptDataLoader, PromptDataset
        from auto_circuit.prune_algos.mask_gradient import mask_gradient_prune_scores
        from auto_circuit.utils.graph_utils import patchable_model

        model = patchable_model(model, factorized=True, slice_output="last_seq", separate_qkv=True, device=torch.device("cpu"))
        right, wrong = torch.tensor([100]), torch.tensor([200])
        data = PromptDataset([tokens[0]], [other[0]], [right], [wrong])
        loader = PromptDataLoader(data, seq_len=None, diverge_idx=0, batch_size=1)

        def round_():
            mask_gradient_prune_scores(
                model, loader, None, grad_function="logit", answer_function="avg_diff", mask_val=0.0,
            )

    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        round_()
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": statistics.median(times[1:]), "peak_mb": peak}))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary")
    parser.add_argument("--positions", default="32,128")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--model", help="folder of a model made before")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--peer", choices=["torch", "auto-circuit"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        return peer(options.peer, int(options.positions), options.rounds)
    with tempfile.TemporaryDirectory() as scratch:
        directory = options.model or scratch
        if not (Path(directory) / "model.safetensors").exists():
            subprocess.run([options.binary, "make", directory], check=True)
        print("positions\twhat\tseconds\tpeak MB\ttime / plain\ttime / weights\tmemory / plain")
        for positions in map(int, options.positions.split(",")):
            runs = {mode: [] for mode in MODES}
            for _ in range(options.turns):
                for mode in MODES:
                    runs[mode].append(ours(options.binary, mode, directory, positions, options.rounds))
            if not options.no_peer:
                for mode in ("torch", "auto-circuit"):
                    runs[mode] = [peer_process(positions, 1, mode)]
            plain = statistics.median(run["seconds"] for run in runs["plain"])
            memory = statistics.median(run["peak_mb"] for run in runs["plain"])
            weights = statistics.median(run["seconds"] for run in runs["weights"])
            for mode, found in runs.items():
                seconds = statistics.median(run["seconds"] for run in found)
                peak = statistics.median(run["peak_mb"] for run in found)
                error = found[0].get("error", "")
                print(f"{positions}\t{mode}\t{seconds:.3f}\t{peak:.0f}\t{seconds / plain:.2f}\t{seconds / weights:.2f}\t{peak / memory:.2f}\t{error}", flush=True)


if __name__ == "__main__":
    main()
