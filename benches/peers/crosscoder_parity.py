"""Loss curves of plain PyTorch crosscoders, for `crates/dict/src/train/tests/parity.rs`.

    python benches/peers/crosscoder_parity.py -o crates/dict/tests/golden/parity

Writes the initial weights (`start.safetensors`) and, by rule, the seed of the batches and the loss of every step
(`losses.json`). The losses are written down from their definitions and differentiated by autograd; nothing is sparse.

A gate of jumprelu that stands within rounding of its threshold opens or closes with the last bit, and the loss jumps by
what it lets through. So every rule is run in f32 and in f64, and the batches are those of the first seed from 7 on for which
both agree to AGREE and no gate ever stands nearer to its threshold than MARGIN: what is then left to reproduce does not hang
on a rounding. Needs torch and safetensors.
"""

import argparse
import json
import pathlib

import torch
from safetensors.torch import save_file

WIDTHS, FEATURES, ROWS, STEPS, K = [24, 16], 96, 64, 100, 6
RATE, WARM_UP, DECAY, CLIP = 2e-3, 10, 0.2, 1.0
# Largest relative difference of the f32 curve from the f64 curve.
AGREE = 2e-6
# Smallest distance of a value from its threshold, in f64: some ten times what f32 rounds away of either.
MARGIN = 2e-6
TOTAL = sum(WIDTHS)


class Random:
    """The generator the Rust side has too."""

    def __init__(self, seed):
        self.state = seed

    def values(self, n):
        out = []
        for _ in range(n):
            self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
            out.append((self.state >> 40) / 2**24 - 0.5)
        return torch.tensor(out, dtype=torch.float32).to(torch.get_default_dtype())


def models(x):
    return x.split(WIDTHS, dim=-1)


def norms(decoder):
    return sum(part.norm(dim=1) for part in models(decoder))


def geometric_median(x):
    out = []
    for part in models(x.double()):
        median = part.mean(0)
        for _ in range(20):
            weight = 1 / (part - median).norm(dim=1).clamp(min=1e-6)
            median = (weight[:, None] * part).sum(0) / weight.sum()
        out.append(median.float())
    return torch.cat(out).to(x.dtype)


def distance(error, squared):
    if squared:
        return error.square().sum(1).mean()
    return torch.stack([part.norm(dim=1) for part in models(error)]).mean()


def keep_batch(ranked, n):
    kept = ranked.flatten().topk(n).indices
    keep = torch.zeros(ranked.numel()).index_fill_(0, kept, 1.0).view_as(ranked)
    return keep * (ranked > 0)


class Step(torch.autograd.Function):
    """Heaviside(v - threshold) with a gradient for the threshold within a window."""

    # Smallest distance of a value from its threshold so far.
    nearest = float("inf")

    @staticmethod
    def forward(ctx, value, threshold, width):
        ctx.save_for_backward(value, threshold)
        ctx.width = width
        Step.nearest = min(Step.nearest, (value - threshold).abs().min().item())
        return (value > threshold).to(value.dtype)

    @staticmethod
    def backward(ctx, gradient):
        value, threshold = ctx.saved_tensors
        window = (((value - threshold).abs() < ctx.width / 2) & (value > 0)).to(value.dtype)
        return None, (-gradient * window / ctx.width).sum(0), None


class Gate(torch.autograd.Function):
    """f where v = f·w passes the threshold; the threshold's gradient is -(threshold/w)/width within the window."""

    @staticmethod
    def forward(ctx, f, weight, threshold, width):
        ctx.save_for_backward(f, weight, threshold)
        ctx.width = width
        return f * (f * weight > threshold)

    @staticmethod
    def backward(ctx, gradient):
        f, weight, threshold = ctx.saved_tensors
        value = f * weight
        window = (((value - threshold).abs() < ctx.width / 2) & (value > 0)).to(value.dtype)
        by_threshold = -(threshold / weight) * gradient * window / ctx.width
        return gradient * (value > threshold), None, by_threshold.sum(0), None


def loss_of(rule, parameters, x, step, silent):
    encoder, bias, decoder, decoder_bias, threshold = parameters
    f = torch.relu(x @ encoder.T + bias)
    weight = norms(decoder).detach()
    ranked = (f * weight).detach()
    squared = rule in ("l1", "jumprelu")
    groups, extra, dead = [FEATURES], 0.0, None
    if rule == "l1":
        ramp = int(STEPS * 0.05)
        share = 0.05 * (step / ramp if step < ramp else 1.0)
        extra = share * (f * norms(decoder)).sum(1).mean()
    elif rule == "topk":
        f = f * torch.zeros_like(f).scatter_(1, ranked.topk(K).indices, 1.0)
    elif rule == "jumprelu":
        ramp = int(STEPS * 0.05)
        share = 0.5 * (step / ramp if step < ramp else 1.0)
        extra = share * (Step.apply(ranked, threshold, 0.2).sum(1).mean() / K - 1) ** 2
        f = Gate.apply(f, weight, threshold, 0.2)
    else:
        f = f * keep_batch(ranked, K * len(x))
        if rule == "matryoshka":
            groups = [FEATURES // 8, FEATURES // 2, FEATURES]
        dead = silent >= 640
    fired = (f > 0).any(0)
    silent += len(x)
    silent[fired] = 0
    loss = 0.0
    for end in groups:
        error = f[:, :end] @ decoder[:end] + decoder_bias - x
        loss = loss + distance(error, squared) / len(groups)
    if dead is not None and dead.any() and rule == "batch-topk":
        every = torch.relu(x @ encoder.T + bias)
        strongest = torch.where(dead, ranked, torch.zeros(())).topk(WIDTHS[0] // 2).indices
        keep = torch.zeros_like(every).scatter_(1, strongest, 1.0) * dead * ~fired * (ranked > 0)
        residual = (x - (f @ decoder + decoder_bias)).detach()
        total = (residual - residual.mean(0)).square().sum()
        extra = (residual - (every * keep) @ decoder).square().sum() / total / 32
    return loss + extra


def train(rule, start, seed, dtype):
    torch.set_default_dtype(dtype)
    names = ["encoder", "encoder_bias", "decoder", "decoder_bias", "thresholds"]
    parameters = [start[name].to(dtype, copy=True).requires_grad_(True) for name in names]
    optimizer = torch.optim.Adam(parameters, lr=RATE)
    random, silent, losses = Random(seed), torch.zeros(FEATURES, dtype=torch.long), []
    for step in range(1, STEPS + 1):
        x = random.values(ROWS * TOTAL).view(ROWS, TOTAL)
        if step == 1:
            with torch.no_grad():
                parameters[3].copy_(geometric_median(x))
        left = STEPS + 1 - step
        rate = RATE * (step / WARM_UP if step < WARM_UP else 1.0) * min(1.0, left / (STEPS * DECAY))
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss = loss_of(rule, parameters, x, step, silent)
        loss.backward()
        with torch.no_grad():
            for parameter in parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        with torch.no_grad():
            parameters[4].clamp_(min=0)
        losses.append(loss.item())
    return losses


def steady(rule, start):
    """The first seed whose curve is the same in f32 and f64, and that curve in f32."""
    for seed in range(7, 1000):
        single = train(rule, start, seed, torch.float32)
        Step.nearest = float("inf")
        double = train(rule, start, seed, torch.float64)
        apart = max(abs(a / b - 1) for a, b in zip(single, double))
        if apart < AGREE and Step.nearest > MARGIN:
            print(f"{rule}: seed {seed}, loss {single[0]:.4f} to {single[-1]:.4f}, f32 from f64 {apart:.1e}, gates {Step.nearest:.1e} away")
            return {"seed": seed, "losses": single}
    raise SystemExit(f"{rule}: every seed has a curve that hangs on a rounding")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True)
    output = parser.parse_args().output
    random = Random(1)
    decoder = random.values(FEATURES * TOTAL).view(FEATURES, TOTAL) * 0.5
    start = {
        "encoder": decoder + 0.1 * random.values(FEATURES * TOTAL).view(FEATURES, TOTAL),
        "encoder_bias": 0.1 * random.values(FEATURES),
        "decoder": decoder,
        "decoder_bias": torch.zeros(TOTAL),
        "thresholds": torch.full((FEATURES,), 0.1),
    }
    # These cannot compete and die.
    start["encoder"][-16:] *= 0.02
    rules = ["l1", "topk", "batch-topk", "jumprelu", "matryoshka"]
    losses = {rule: steady(rule, start) for rule in rules}
    save_file(start, str(output / "start.safetensors"))
    (output / "losses.json").write_text(json.dumps(losses) + "\n")


if __name__ == "__main__":
    main()
