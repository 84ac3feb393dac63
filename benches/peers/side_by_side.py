"""Prints benches/run's table: our settings and torch's take turns, round by round; medians are compared.

side_by_side.py BENCH [--rounds N] [--only WORK,…] [--settings f32,…] [--no-memory]
"""
import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

WORK = ["prefill 8 128", "prefill 1 1024", "decode 1 128 8", "decode 16 128 4", "train 1 512", "train 8 128"]
PARAMETERS = 493_961_216  # of Qwen2.5-0.5B's matrices, the tied embedding once
HEAD = 151_936 * 896


def operations(work):
    """Multiply-adds of the matrices, two operations each; attention's own are below 2 % of them."""
    kind, batch, seq = work.split()[0], *map(int, work.split()[1:3])
    blocks = 2 * (PARAMETERS - HEAD)
    if kind == "prefill":
        return batch * (seq * blocks + 2 * HEAD)
    if kind == "decode":
        return batch * (blocks + 2 * HEAD)
    return batch * seq * 2 * (blocks + 2 * HEAD)


class Worker:
    def __init__(self, command, label):
        self.label = label
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ready = self.process.stdout.readline().split()
        if not ready or ready[0] != "ready":
            sys.exit(f"{label}: did not start")
        self.bytes = int(ready[1])

    def ask(self, work):
        self.process.stdin.write(work + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"{self.label}: stopped during `{work}`")
        return float(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bench")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--settings", default="f32,bf16x3,bf16,int8")
    parser.add_argument("--torch", default="f32,bf16")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--cpu", action="store_true", help="one thread each, processor time: for a machine that others use")
    args = parser.parse_args()
    if args.cpu:
        os.environ |= {"BENCH_CLOCK": "cpu", "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    directory = subprocess.check_output([args.bench, "directory"], text=True).strip()
    torch = [sys.executable, str(Path(__file__).with_name("torch_model.py")), directory]
    commands = {s: [args.bench, "worker", s] for s in args.settings.split(",") if s}
    commands |= {f"torch {s}": [*torch, s] for s in args.torch.split(",") if s}
    flops, bandwidth = map(float, subprocess.check_output([args.bench, "peaks"], text=True).split())
    print(f"peaks: {flops:.0f} GFLOP/s f32 from registers, {bandwidth:.1f} GB/s from memory; `x` is torch's time over ours")
    workers = [Worker(command, label) for label, command in commands.items()]
    for worker in workers:
        print(f"  {worker.label:<11} weights {worker.bytes / 1e9:.2f} GB")
    kinds = [w for w in args.only.split(",") if w]
    for work in [w for w in WORK if not kinds or w in kinds or w.split()[0] in kinds]:
        times = {worker.label: [] for worker in workers}
        for _ in range(args.rounds):
            for worker in workers:
                worker.ask(work)  # a turn begins unmeasured: while the others had theirs, caches and free pages were lost
                times[worker.label].append(worker.ask(work))
                time.sleep(0.05)
        report(work, {label: statistics.median(t) for label, t in times.items()}, workers, (flops, bandwidth))
    for worker in workers:
        worker.close()
    if not args.no_memory and (not kinds or "train" in kinds):
        memory(commands)


def report(work, medians, workers, peaks):
    kind, batch, seq = work.split()[0], *map(int, work.split()[1:3])
    tokens = batch if kind == "decode" else batch * seq
    print(f"\n{work}")
    for worker in workers:
        seconds = medians[worker.label]
        share = f"{operations(work) / seconds / 1e9 / peaks[0]:.0%} of f32 peak"
        if kind == "decode":
            share += f", {worker.bytes / seconds / 1e9 / peaks[1]:.0%} of memory bandwidth"
        ratios = [f"{medians[t] / seconds:.2f}x {t}" for t in medians if t.startswith("torch") and t != worker.label]
        print(f"  {worker.label:<11} {seconds * 1e3:9.1f} ms {tokens / seconds:9.1f} tokens/s   {share}   {', '.join(ratios)}")


def memory(commands):
    """Each in a process of its own, one pass."""
    print("\npeak memory of a process that loads the model and does one forward and backward pass")
    for work in ["train 1 512", "train 8 128"]:
        for label, command in commands.items():
            worker = Worker(command, label)
            worker.ask(work)
            peak = worker.ask("memory")
            worker.close()
            print(f"  {work:<12} {label:<11} {peak / 1e9:6.2f} GB")


main()
