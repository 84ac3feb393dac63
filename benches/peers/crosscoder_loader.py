"""Rows per second of a loader: ours and the usual one in Python, in turns.

    python benches/peers/crosscoder_loader.py [--rows 98304] [--width 2304] [--models 2] [--rounds 3]

The usual one takes rows one by one out of memory-mapped shards (16-bit numbers that are read as bf16), stacks the models, and
lets a torch DataLoader with one worker collate batches of shuffled rows. Ours is `cargo bench -p crosscode --bench reader`.
Both read files that were just written and lie in the page cache. Needs torch and numpy.
"""

import argparse
import pathlib
import statistics
import tempfile
import time

from crosscoder_step import built, last_line


def theirs(directory, options):
    import numpy
    import torch

    class Rows(torch.utils.data.Dataset):
        def __init__(self):
            shape = (options.rows, options.width)
            paths = [directory / f"{model}.memmap" for model in range(options.models)]
            self.maps = [numpy.memmap(path, dtype=numpy.int16, mode="r", shape=shape) for path in paths]

        def __len__(self):
            return options.rows

        def __getitem__(self, row):
            rows = [torch.tensor(rows[row]).view(torch.bfloat16) for rows in self.maps]
            return torch.stack(rows, dim=0)

    loader = torch.utils.data.DataLoader(Rows(), batch_size=2048, shuffle=True, num_workers=1)
    # The worker is started and warm before the clock runs.
    batches = iter(loader)
    next(batches)
    start, rows = time.perf_counter(), 0
    for batch in batches:
        rows += len(batch.float())
        if time.perf_counter() - start > options.seconds:
            break
    return rows / (time.perf_counter() - start)


def write(directory, options):
    import numpy

    random = numpy.random.default_rng(0)
    for model in range(options.models):
        values = random.standard_normal(options.rows * options.width, dtype=numpy.float32)
        (values.view(numpy.uint32) >> 16).astype(numpy.uint16).tofile(directory / f"{model}.memmap")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=98304)
    parser.add_argument("--width", type=int, default=2304)
    parser.add_argument("--models", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="of the Python loader's epoch that are measured")
    options = parser.parse_args()
    path = built("crosscode", "reader")
    command = [path, "reader", "--shape", f"{options.models}x{options.width}x1", "--rows", str(options.rows)]
    runs = {"python": [], "ours": []}
    with tempfile.TemporaryDirectory() as directory:
        write(pathlib.Path(directory), options)
        for _ in range(options.rounds):
            runs["python"].append(theirs(pathlib.Path(directory), options))
            runs["ours"].append(last_line(command)["rows_per_s"])
    ratio = statistics.median(b / a for a, b in zip(runs["python"], runs["ours"]))
    print(f"{options.models} models of {options.width}, bf16, {options.rounds} rounds in turns")
    for name, found in runs.items():
        print(f"{name:8}{statistics.median(found):>10.0f} rows/s")
    print(f"ours is {ratio:.1f} times as fast")


if __name__ == "__main__":
    main()
