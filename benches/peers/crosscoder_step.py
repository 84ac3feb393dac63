"""A training step of a crosscoder: ours and its peers, in turns.

    python benches/peers/crosscoder_step.py [--shape 3x512x16384] [--batch 2048] [--k 64] [--rule batch-topk] [--rounds 3]

- `torch f32`, `torch bf16`: a plain torch step of the same recipe (arXiv 2504.02922: mean norm of the error, Adam, clipping)
- `package`: BatchTopKTrainer of `dictionary-learning` from PyPI, whose crosscoder is its autoencoder over the models side by
  side: the same products, the same selection
- `ours f32`, `ours bf16`: `cargo bench -p dict --bench crosscoder`, f32 throughout or bf16 factors in the encoder's product

All train on the same kind of random activations. Times are medians of a step, memory is the highest of the process. The bound
is the encoder's product, the only dense one there has to be, at the f32 multiply-adds this machine reaches from registers.
Needs torch and numpy, and `dictionary-learning` where it is asked for.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time


def measured(step, steps):
    """Times of a step after an unmeasured one, as a line of JSON."""
    step()
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        loss = step()
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(json.dumps({"ms": 1e3 * statistics.median(times), "fastest_ms": 1e3 * min(times), "peak_mb": peak, "loss": loss}))


def torch_step(shape, options, dtype):
    import torch

    (n_models, width, n_features), batch, k = shape, options.batch, options.k
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
        if options.rule == "topk":
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

    measured(step, options.steps)


def package_step(shape, options):
    import torch
    from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer

    n_models, width, n_features = shape
    trainer = BatchTopKTrainer(
        steps=100_000, activation_dim=n_models * width, dict_size=n_features, k=options.k,
        layer=0, lm_name="", lr=2e-4, seed=0, device="cpu",
    )
    x = torch.randn(options.batch, n_models * width)
    done = iter(range(10**6))
    measured(lambda: trainer.update(next(done), x), options.steps)


def built(package, bench):
    """Path of a benchmark, built if it is not."""
    command = ["cargo", "bench", "-q", "--workspace", "--bench", bench, "--no-run", "--message-format=json"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    artifacts = [json.loads(line) for line in lines if '"executable":"' in line]
    [path] = {made["executable"] for made in artifacts if made["target"]["name"] == bench and f"/{package}#" in made["package_id"]}
    return path


def last_line(command):
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.strip().splitlines()[-1])


def ours(path, options, precision):
    command = [path, "--precision", precision]
    for name in ("shape", "batch", "k", "rule", "steps"):
        command += [f"--{name}", str(getattr(options, name))]
    return last_line(command)


def theirs(options, side):
    command = [sys.executable, __file__, "--torch", side]
    for name in ("shape", "batch", "k", "rule", "steps"):
        command += [f"--{name}", str(getattr(options, name))]
    return last_line(command)


def table(options, runs):
    print(f"{options.rule} {options.shape}, batch {options.batch}, k {options.k}, {options.rounds} rounds in turns")
    bounds = [run["bound_ms"] for found in runs.values() for run in found if "bound_ms" in run]
    bound = min(bounds) if bounds else float("nan")
    names = list(runs)
    print(f"{'':12}{'ms a step':>10}{'rows/s':>9}{'of bound':>10}{'peak MB':>9}" + "".join(f"{'x ' + name:>14}" for name in names[:2]) + f"{'memory':>8}")
    memory = max(run["peak_mb"] for run in runs[names[0]])
    for name, found in runs.items():
        ms = statistics.median(run["ms"] for run in found)
        # Of every round's pair: the machine's other load falls on both.
        ratio = lambda base: statistics.median(a["ms"] / b["ms"] for a, b in zip(runs[base], found))
        peak = max(run["peak_mb"] for run in found)
        ratios = "".join(f"{ratio(base):>14.2f}" for base in names[:2])
        print(f"{name:12}{ms:>10.0f}{1e3 * options.batch / ms:>9.0f}{bound / ms:>10.2f}{peak:>9.0f}{ratios}{peak / memory:>8.2f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", default="3x512x16384")
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--rule", default="batch-topk", choices=["batch-topk", "topk"])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", default="torch f32,torch bf16,ours f32,ours bf16", help="of those above; the first two are compared with")
    parser.add_argument("--torch", choices=["f32", "bf16", "package"], help="run one peer alone")
    options = parser.parse_args()
    shape = [int(part) for part in options.shape.split("x")]
    if options.torch == "package":
        package_step(shape, options)
    elif options.torch:
        torch_step(shape, options, options.torch)
    if options.torch:
        return
    path = built("dict", "crosscoder")
    sides = {
        "torch f32": lambda: theirs(options, "f32"),
        "torch bf16": lambda: theirs(options, "bf16"),
        "package": lambda: theirs(options, "package"),
        "ours f32": lambda: ours(path, options, "f32"),
        "ours bf16": lambda: ours(path, options, "bf16"),
    }
    runs = {name: [] for name in options.sides.split(",")}
    for _ in range(options.rounds):
        for name, found in runs.items():
            found.append(sides[name]())
    table(options, runs)


if __name__ == "__main__":
    main()
