"""The other side of benches/run: transformers on torch, told what to do as benches/model.rs is.

torch_model.py DIRECTORY f32|bf16
"""
import os
import resource
import sys
import time

import torch
from transformers import AutoModelForCausalLM


# As in benches/model.rs: processor time of all threads where the machine is shared.
clock = time.process_time if os.environ.get("BENCH_CLOCK") == "cpu" else time.perf_counter


def texts(batch, seq):
    row = [[(r * 7919 + i * 104729) % 150000 for i in range(seq)] for r in range(batch)]
    return torch.tensor(row)


@torch.no_grad()
def prefill(model, batch, seq):
    ids = texts(batch, seq)
    start = clock()
    model(input_ids=ids, use_cache=True, logits_to_keep=1)
    return clock() - start


@torch.no_grad()
def decode(model, batch, seq, steps):
    out = model(input_ids=texts(batch, seq), use_cache=True, logits_to_keep=1)
    start = None
    for step in range(steps + 1):
        if step == 1:
            start = clock()
        token = out.logits[:, -1].argmax(-1, keepdim=True)
        out = model(input_ids=token, past_key_values=out.past_key_values, use_cache=True)
    return (clock() - start) / steps


def train(model, batch, seq):
    ids = texts(batch, seq)
    start = clock()
    embeds = model.get_input_embeddings()(ids).detach().requires_grad_()
    logits = model(inputs_embeds=embeds, use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    loss.backward()
    return clock() - start


def main():
    directory, dtype = sys.argv[1:]
    kind = {"f32": torch.float32, "bf16": torch.bfloat16}[dtype]
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=kind, attn_implementation="sdpa")
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    print("ready", size, flush=True)
    for line in sys.stdin:
        work, *numbers = line.split()
        numbers = [int(n) for n in numbers]
        if work == "memory":
            answer = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        else:
            answer = {"prefill": prefill, "decode": decode, "train": train}[work](model, *numbers)
        print(answer, flush=True)


main()
