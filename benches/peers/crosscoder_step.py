"""A training step of a crosscoder: ours and a plain torch step of the same recipe, in turns.

    python benches/peers/crosscoder_step.py [--shape 3x512x16384] [--batch 2048] [--k 64] [--rule batch-topk] [--rounds 3]

Needs torch and numpy. Both sides train on the same kind of random activations, with the loss of arXiv 2504.02922 (mean
norm of the error), Adam and clipping; times are medians of a step, memory is the highest of the process.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time


def torch_step(shape, batch, k, rule, dtype, steps):
    import torch

    n_models, width, n_features = shape
    torch.manual_seed(0)
    encoder = torch.randn(n_models, width, n_features) / (n_models * width) ** 0.5
    decoder = encoder.transpose(1, 2).contiguous().clone()
    bias, decoder_bias = torch.zeros(n_features), torch.zeros(n_models, width)
    parameters = [encoder, bias, decoder, decoder_bias]
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(parameters, lr=2e-4)
    x = torch.randn(batch, n_models, width)

    def step():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bf16"):
            pre = torch.einsum("bmd,mdf->bf", x, encoder)
        f = torch.relu(pre.float() + bias)
        norms = decoder.norm(dim=2).sum(0)
        ranked = f.detach() * norms.detach()
        if rule == "topk":
            keep = torch.zeros_like(f).scatter_(1, ranked.topk(k, sorted=False).indices, 1.0)
        else:
            kept = ranked.flatten().topk(k * batch, sorted=False).indices
            keep = torch.zeros(batch * n_features).index_fill_(0, kept, 1.0).view_as(f)
        f = f * keep
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bf16"):
            reconstruction = torch.einsum("bf,mfd->bmd", f, decoder)
        loss = (reconstruction.float() + decoder_bias - x).norm(dim=2).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return loss.item()

    step()
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        loss = step()
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(json.dumps({"ms": 1e3 * statistics.median(times), "fastest_ms": 1e3 * min(times), "peak_mb": peak, "loss": loss}))


def ours(options, precision):
    command = ["cargo", "bench", "-q", "-p", "dict", "--bench", "crosscoder", "--"]
    command += ["--shape", options.shape, "--batch", str(options.batch), "--k", str(options.k)]
    command += ["--rule", options.rule, "--precision", precision, "--steps", str(options.steps)]
    return last_line(command)


def theirs(options, dtype):
    command = [sys.executable, __file__, "--torch", dtype, "--shape", options.shape, "--batch", str(options.batch)]
    command += ["--k", str(options.k), "--rule", options.rule, "--steps", str(options.steps)]
    return last_line(command)


def last_line(command):
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", default="3x512x16384")
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--rule", default="batch-topk", choices=["batch-topk", "topk"])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--torch", choices=["f32", "bf16"], help="run the torch side alone")
    options = parser.parse_args()
    shape = [int(part) for part in options.shape.split("x")]
    if options.torch:
        torch_step(shape, options.batch, options.k, options.rule, options.torch, options.steps)
        return
    sides = {
        "torch f32": lambda: theirs(options, "f32"),
        "ours f32": lambda: ours(options, "f32"),
        "torch bf16": lambda: theirs(options, "bf16"),
        "ours bf16 encode": lambda: ours(options, "bf16"),
    }
    runs = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, run in sides.items():
            runs[name].append(run())
    print(f"{options.rule} {options.shape}, batch {options.batch}, k {options.k}, {options.rounds} rounds in turns")
    print(f"{'':18}{'ms a step':>10}{'rows/s':>9}{'peak MB':>9}{'x torch f32':>13}{'memory':>8}")
    base = statistics.median(run["ms"] for run in runs["torch f32"])
    base_memory = max(run["peak_mb"] for run in runs["torch f32"])
    for name, found in runs.items():
        ms = statistics.median(run["ms"] for run in found)
        # Of every round's pair: the machine's other load falls on both.
        ratio = statistics.median(a["ms"] / b["ms"] for a, b in zip(runs["torch f32"], found))
        peak = max(run["peak_mb"] for run in found)
        rows = 1e3 * options.batch / ms
        print(f"{name:18}{ms:>10.0f}{rows:>9.0f}{peak:>9.0f}{ratio:>13.2f}{peak / base_memory:>8.2f}")


if __name__ == "__main__":
    main()
