"""Takes what the tests need from a directory of expected scores: make.py DIRECTORY (with qwen2-ce/, qwen2-logit-diff/).

Scores come from EAP-IG 795f560 (`lib/*`, on the scale of a mean over examples) and from an independent implementation with
autograd in f64 (`indep/*`, `exact/*`). Here they are means over the four pairs, real edges only, row by row.
"""
import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

METRICS = {"nll": "qwen2-ce", "logit-diff": "qwen2-logit-diff"}
EACH = ["EAP", "EAP-zero"]  # kept example by example too

here, source = Path(__file__).parent, Path(sys.argv[1])
tensors, circuits = {}, {}
for metric, folder in METRICS.items():
    scores = load_file(source / folder / "scores.safetensors")
    names = json.loads((source / folder / "names.json").read_text())
    real = scores["real"].astype(bool)
    for name, values in scores.items():
        if name.startswith(("indep/", "lib/")):
            mean = values.mean(0) if values.ndim == 3 else values
            tensors[f"{metric}/{name}"] = np.ascontiguousarray(mean[real])
            if name.startswith("indep/") and name[6:] in EACH:
                tensors[f"{metric}/each/{name[6:]}"] = np.ascontiguousarray(values[:, real])
        elif name.startswith("exact/"):
            tensors[f"{metric}/{name}"] = values
    summary = json.loads((source / folder / "summary.json").read_text())
    edges = [f"{names['src'][i]}->{names['dst'][j]}" for i, j in np.argwhere(real)]
    number = {edge: place for place, edge in enumerate(edges)}
    circuits[metric] = {
        "CPR": summary["CPR"],
        "CMD": summary["CMD"],
        "curve": [[point["pct"], point["n"], point["perf"], point["faithfulness"]] for point in summary["curve"]],
        "circuits": {name: sorted(number[edge] for edge in edges) for name, edges in summary["circuits"].items()},
    }
save_file(tensors, here / "head.safetensors")
(here / "circuits.json").write_text(json.dumps(circuits, separators=(",", ":")) + "\n")
for name in ("eapig.json", "eapig.pt"):
    (here / name).write_bytes((source / METRICS["nll"] / name).read_bytes())
