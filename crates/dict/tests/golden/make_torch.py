"""Files of torch.save for the tests of the reader: views and number formats, the stream before torch 1.6, and two that
would run a command when unpickled.

    python make_torch.py OUT
"""

import collections
import os
import sys
from pathlib import Path

import torch


class Runs:
    """What a pickle can do: it names a function and its arguments."""

    def __reduce__(self):
        return (os.system, ("touch it-ran",))


out = Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
base = torch.arange(24, dtype=torch.float32)
state = collections.OrderedDict(
    whole=base.view(2, 3, 4),
    transposed=base.view(6, 4).T,
    part=base.view(6, 4)[1:5:2, 1:3],
    scalar=torch.tensor(2.5, dtype=torch.float64),
    empty=torch.zeros(0, 3),
    half=torch.tensor([1.5, -2.0], dtype=torch.float16),
    bfloat=torch.tensor([1.5, -3.0], dtype=torch.bfloat16),
    flags=torch.tensor([True, False]),
    small=torch.tensor([-1, 2], dtype=torch.int8),
    wide=torch.tensor([-(2**40), 7]),
    parameter=torch.nn.Parameter(torch.tensor([0.25])),
)
torch.save(state, out / "views.pt")
torch.save({"sae": dict(state), "version": "1"}, out / "wrapped.pt")
torch.save(state, out / "stream.pt", _use_new_zipfile_serialization=False)
torch.save(torch.arange(5), out / "numbers.pt")
torch.save({"w": base, "x": Runs()}, out / "runs.pt")
torch.save({"w": base, "x": Runs()}, out / "runs_protocol_4.pt", pickle_protocol=4)
torch.save({"w": base, "optimizer": torch.optim.Adam}, out / "class.pt")
