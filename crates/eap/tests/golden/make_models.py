"""Scores of every method on models of other architectures: make_models.py, with torch and transformers 4.57.

The models are those of ../../../model/tests/golden, run by transformers in f64. An edge is what it is by definition: every
target reads the residual stream plus a probe of its own, so that autograd by the probe is the gradient of that target, and a
probe that holds a source's change patches that edge. Nothing is expanded, summed over runs or taken from an identity.

Writes `models.json` (the sequences) and `models.safetensors`: `MODEL/NAME`, the mean over the sequences of the real edges row by
row in f64; `MODEL/NAME` of exact patches holds every 37th edge.
"""
import json
import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
MODELS = ["qwen3", "gemma2", "llama3", "olmo2", "llama-linear-bias", "mistral-window"]
EVERY = 37


class Rules:
    norms = products = activations = attention = False


def norm_of(module, x, weight=None):
    weight = module.weight if weight is None else weight
    if "Gemma" in type(module).__name__:
        weight = weight + 1
    epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon)
    return x * (scale.detach() if Rules.norms else scale) * weight


def frequencies(config, d_head):
    """Angles a position, in f64."""
    base = config.rope_theta
    freq = base ** (-torch.arange(0, d_head, 2, dtype=torch.float64) / d_head)
    scaling = getattr(config, "rope_scaling", None) or {}
    kind = scaling.get("rope_type")
    if kind == "linear":
        return freq / scaling["factor"]
    if kind == "llama3":
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        old, factor = scaling["original_max_position_embeddings"], scaling["factor"]
        turns = old * freq / (2 * math.pi)
        smooth = ((turns - low) / (high - low)).clamp(0, 1)
        return (1 - smooth) * freq / factor + smooth * freq
    assert kind is None, kind
    return freq


class Net:
    """A model of transformers whose targets read probes."""

    def __init__(self, name):
        path = HERE.parents[2] / "model/tests/golden" / name
        self.hf = AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager").double().eval()
        for weight in self.hf.parameters():
            weight.requires_grad_(False)
        config = self.config = self.hf.config
        self.blocks = self.hf.model.layers
        self.L, self.H = config.num_hidden_layers, config.num_attention_heads
        self.KV = config.num_key_value_heads
        self.D = getattr(config, "head_dim", None) or config.hidden_size // self.H
        self.behind = hasattr(self.blocks[0], "post_feedforward_layernorm")
        self.sandwich = hasattr(self.blocks[0], "pre_feedforward_layernorm")
        width = self.H + 1
        self.n_src, self.n_dst = 1 + self.L * width, 1 + self.L * (3 * self.H + 1)
        self.patch()

    def sources_before(self, target):
        layer, place = divmod(target, 3 * self.H + 1)
        seen = 1 + layer * (self.H + 1)
        if layer == self.L:
            return self.n_src
        return seen + self.H if place == 3 * self.H else seen

    def patch(self):
        freq = frequencies(self.config, self.D)

        def rotary(x, position_ids):
            angle = position_ids[0, :, None].double() * freq
            angle = torch.cat([angle, angle], -1)[None]
            return angle.cos(), angle.sin()

        self.hf.model.rotary_emb.forward = rotary
        for module in self.hf.modules():
            if type(module).__name__.endswith("RMSNorm"):
                module.forward = lambda x, module=module: norm_of(module, x)
        for l, block in enumerate(self.blocks):
            self.patch_block(l, block)
        self.hf.model.norm.register_forward_pre_hook(lambda _, args: (self.read("logits", args[0]),))

    def patch_block(self, l, block):
        attn, mlp = block.self_attn, block.mlp
        attn.num_key_value_groups = 1

        def begin(_, args, kwargs):
            h = args[0] if args else kwargs["hidden_states"]
            if l == 0:
                h = self.write(("input",), h)
            self.h = h
            return ((h, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": h})

        block.register_forward_pre_hook(begin, with_kwargs=True)
        for part, projection in zip("qkv", (attn.q_proj, attn.k_proj, attn.v_proj)):
            heads = self.H if part == "q" else self.KV

            def project(_, part=part, projection=projection, heads=heads, block=block, l=l):
                h = self.read((l, part), self.h)  # [H, B, P, d]
                y = h if self.behind and not self.sandwich else norm_of(block.input_layernorm, h)
                weight = projection.weight.view(heads, self.D, -1).repeat_interleave(self.H // heads, 0)
                out = torch.einsum("hbpd,hed->bphe", y, weight)
                if projection.bias is not None:
                    out = out + projection.bias.view(heads, self.D).repeat_interleave(self.H // heads, 0)
                return out.flatten(2)

            projection.forward = project
        if hasattr(attn, "k_norm") and attn.k_norm.weight.numel() > self.D:
            whole = attn.k_norm.weight.view(self.KV, self.D).repeat_interleave(self.H // self.KV, 0).flatten()
            attn.k_norm.forward = lambda x, module=attn.k_norm: norm_of(module, x, whole)
        after = block.post_attention_layernorm if self.behind else None
        attn.o_proj.forward = lambda z, l=l, o=attn.o_proj: self.heads(l, z, o, after)
        if after is not None:
            after.forward = lambda x, l=l, after=after: self.write(("a", l), norm_of(after, x))
        before = block.pre_feedforward_layernorm if self.sandwich else mlp if self.behind else block.post_attention_layernorm
        before.register_forward_pre_hook(lambda _, args: (self.read((l, "m"), args[0]),))
        mlp.forward = lambda x, mlp=mlp: self.gated(mlp, x)
        if self.behind:
            last = block.post_feedforward_layernorm
            last.forward = lambda x, l=l, last=last: self.write(("m", l), norm_of(last, x))
        else:
            mlp.register_forward_hook(lambda _, __, out, l=l: self.write(("m", l), out))

    def gated(self, mlp, x):
        gate, up = mlp.gate_proj(x), mlp.up_proj(x)
        act = mlp.act_fn(gate)
        if Rules.activations:
            act = gate * (act / gate).detach()
        product = act * up
        if Rules.products:
            product = product / 2 + (product / 2).detach()
        return mlp.down_proj(product)

    def heads(self, l, z, o, after):
        """What every head adds, and all of them together."""
        weight = o.weight.view(-1, self.H, self.D)
        each = torch.einsum("bphe,dhe->hbpd", z.view(*z.shape[:2], self.H, self.D), weight)
        out = each.sum(0) if o.bias is None else each.sum(0) + o.bias
        if after is None:
            self.kept[("heads", l)] = each
            return self.write(("a", l), out)
        epsilon = getattr(after, "variance_epsilon", getattr(after, "eps", None))
        scale = torch.rsqrt(out.pow(2).mean(-1, keepdim=True) + epsilon)
        gamma = after.weight + 1 if "Gemma" in type(after).__name__ else after.weight
        self.kept[("heads", l)] = each * scale * gamma
        return out

    def write(self, name, out):
        self.kept[name] = out
        return self.held[name] if name in self.held else out

    def read(self, target, h):
        probe = self.probes.get(target)
        if isinstance(target, tuple) and target[1] in "qkv":
            h = h.expand(self.H, *h.shape)
        self.seen[target] = h
        return h if probe is None else h + probe

    def targets(self):
        """In the order of the columns, and head by head."""
        for l in range(self.L):
            for part in "qkv":
                yield (l, part), self.H
            yield (l, "m"), 1
        yield "logits", 1

    def run(self, ids, probes=None, held=None):
        self.probes, self.held, self.kept, self.seen = probes or {}, held or {}, {}, {}
        return self.hf(ids[None], use_cache=False).logits[0]

    def sources(self):
        """[n_src, P, d] of the last run."""
        rows = [self.kept[("input",)][0][None]]
        for l in range(self.L):
            rows += [self.kept[("heads", l)][:, 0], self.kept[("m", l)][0][None]]
        return torch.cat(rows).detach()

    def zero_probes(self, ids):
        shape = (1, len(ids), self.config.hidden_size)
        return {
            target: torch.zeros((n, *shape) if n > 1 or isinstance(target, tuple) and target[1] in "qkv" else shape, dtype=torch.float64, requires_grad=True)
            for target, n in self.targets()
        }

    def gradients(self, ids, loss, held=None, skips_first=False):
        """[n_dst, P, d]"""
        probes = self.zero_probes(ids)
        value = loss(self.run(ids, probes, held))
        found = torch.autograd.grad(value, list(probes.values()), allow_unused=True)
        rows = []
        for (target, _), probe, gradient in zip(self.targets(), probes.values(), found):
            gradient = torch.zeros_like(probe) if gradient is None else gradient
            if skips_first and isinstance(target, tuple) and target[0] == 0 and target[1] in "qkv":
                gradient = torch.zeros_like(gradient)
            rows.append(gradient.reshape(-1, len(ids), self.config.hidden_size))
        return torch.cat(rows)

    def blocks_of(self):
        yield ("input",), range(1)
        for l in range(self.L):
            first = 1 + l * (self.H + 1)
            yield ("a", l), range(first, first + self.H)
            yield ("m", l), range(first + self.H, first + self.H + 1)


def attend(module, query, key, value, mask, scaling=None, dropout=0.0, softcap=None, sliding_window=None, **_):
    scores = query @ key.transpose(2, 3) * scaling
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    n = scores.shape[-1]
    i, j = torch.arange(n)[:, None], torch.arange(n)[None]
    window = sliding_window or getattr(module, "sliding_window", None) or n
    scores = scores.masked_fill((j > i) | (i - j >= window), -math.inf)
    weights = scores.softmax(-1)
    if Rules.attention:
        weights = weights.detach()
    return (weights @ value).transpose(1, 2).contiguous(), weights


def losses(pair, clean_logits):
    right, wrong = pair["label"]
    reference = clean_logits[-1].log_softmax(-1).detach()

    def nll(logits):
        logp = logits.log_softmax(-1)
        return -sum(logp[p, t] for p, t in pair["targets"]) / len(pair["targets"])

    def logit_diff(logits):
        return logits[-1, wrong[0]] - logits[-1, right[0]]

    def prob_diff(logits):
        p = logits[-1].softmax(-1)
        return p[wrong].sum() - p[right].sum()

    def kl(logits):
        return (reference.exp() * (reference - logits[-1].log_softmax(-1))).sum()

    return {"nll": nll, "logit-diff": logit_diff, "prob-diff": prob_diff, "kl": kl}


def shares(steps, ends):
    first, n = {"left": (0.0, steps), "right": (1.0, steps), "mid": (0.5, steps), "both": (0.0, steps + 1)}[ends]
    return [(i + first) / steps for i in range(n)]


# name: metric, method, ablation, steps, end points
PLANS = {
    "eap-nll-zero": ("nll", "eap", "zero", 0, ""),
    "eap-nll-mean": ("nll", "eap", "mean", 0, ""),
    "eap-logit-diff": ("logit-diff", "eap", "corrupted", 0, ""),
    "eap-prob-diff": ("prob-diff", "eap", "corrupted", 0, ""),
    "at-corrupted-prob-diff": ("prob-diff", "eap-at-corrupted", "corrupted", 0, ""),
    "clean-corrupted-kl": ("kl", "clean-corrupted", "corrupted", 0, ""),
    "inputs-kl-mid": ("kl", "eap-ig-inputs", "corrupted", 3, "mid"),
    "inputs-nll-zero-mid": ("nll", "eap-ig-inputs", "zero", 2, "mid"),
    "inputs-prob-diff-both": ("prob-diff", "eap-ig-inputs", "corrupted", 2, "both"),
    "inputs-prob-diff-positional": ("prob-diff", "eap-ig-inputs", "mean-positional", 2, "left"),
    "activations-kl": ("kl", "eap-ig-activations", "corrupted", 2, "right"),
    "activations-nll-zero": ("nll", "eap-ig-activations", "zero", 2, "mid"),
    "own-prob-diff-positional": ("prob-diff", "eap-ig-activations-own", "mean-positional", 2, "both"),
    "relp-prob-diff": ("prob-diff", "relp", "corrupted", 0, ""),
    "relp-attention-nll-zero": ("nll", "relp", "zero", 0, "attention"),
    "ifr": ("nll", "ifr", "zero", 0, ""),
    "exact-kl": ("kl", "exact", "corrupted", 0, ""),
    "exact-prob-diff-mean": ("prob-diff", "exact", "mean", 0, ""),
}


def pairs_of(name, vocab):
    torch.manual_seed(sum(map(ord, name)))
    pairs = []
    for n in (9, 9, 7):
        clean = torch.randint(3, vocab, (n,)).tolist()
        corrupted = list(clean)
        for place in (len(pairs) + 1, n - 2):
            corrupted[place] = (clean[place] + 11) % vocab
        labels = torch.randperm(vocab)[:5].tolist()
        targets = [[p, int(t)] for p, t in zip(range(n - 3, n), torch.randint(0, vocab, (3,)))]
        pairs.append({"clean": clean, "corrupted": corrupted, "label": [labels[:2], labels[2:]], "targets": targets})
    return pairs


def score(net, pair, plan, means):
    metric, method, ablation, steps, ends = plan
    clean, corrupted = torch.tensor(pair["clean"]), torch.tensor(pair["corrupted"])
    # What the loss sees of the clean run does not depend on rules or probes.
    logits = net.run(clean)
    outputs, kept = net.sources(), {key: value.detach() for key, value in net.kept.items()}
    seen = {key: value.detach() for key, value in net.seen.items()}
    loss = losses(pair, logits)[metric]
    if ablation == "zero":
        ablated, other = torch.zeros_like(outputs), {key: torch.zeros_like(value) for key, value in kept.items()}
    elif ablation == "corrupted":
        net.run(corrupted)
        ablated, other = net.sources(), {key: value.detach() for key, value in net.kept.items()}
    else:
        ablated, other = means[ablation]
        ablated = ablated.expand_as(outputs)
        other = {key: value.expand_as(kept[key]) for key, value in other.items()}
    difference = ablated - outputs
    if method == "ifr":
        return routes(net, outputs, seen)
    if method == "exact":
        return exact(net, clean, difference, loss)
    both = lambda g: torch.einsum("upd,vpd->uv", difference, g)
    between = lambda block, share: {block: other[block] + share * (kept[block] - other[block])}
    # Heads and their sum differ in a bias of the output projection, which no ablation takes away.
    for l in range(net.L):
        if net.blocks[l].self_attn.o_proj.bias is not None:
            other[("a", l)] = kept[("a", l)] + (other[("heads", l)] - kept[("heads", l)]).sum(0)
    at = lambda share: net.gradients(clean, loss, between(("input",), share))
    if method == "eap" or method == "relp":
        return both(net.gradients(clean, loss))
    if method == "eap-at-corrupted":
        return both(at(0.0))
    if method == "clean-corrupted":
        return both((net.gradients(clean, loss) + at(0.0)) / 2)
    points = shares(steps, ends)
    if method == "eap-ig-inputs":
        return both(sum(at(share) for share in points) / len(points))
    total, blocks = torch.zeros(net.n_src, net.n_dst, dtype=torch.float64), list(net.blocks_of())
    for block, rows in blocks:
        first = block == ("input",) and method == "eap-ig-activations"
        held = [net.gradients(clean, loss, between(block, share), first) for share in points]
        found = both(sum(held) / len(points))
        if method == "eap-ig-activations":
            total += found / len(blocks)
        else:
            total[rows] = found[rows]
    return total


def routes(net, outputs, seen):
    found = torch.zeros(net.n_src, net.n_dst, dtype=torch.float64)
    column = 0
    for target, n in net.targets():
        x = seen[target]
        x = x[0, 0] if x.dim() == 4 else x[0]
        u = outputs[: net.sources_before(column)]
        worth = (x.abs().sum(-1) - (x - u).abs().sum(-1)).clamp(min=0)
        share = (worth / worth.sum(0)).mean(1)
        found[: len(u), column : column + n] = share[:, None]
        column += n
    return found


def exact(net, clean, difference, loss):
    found = torch.zeros(net.n_src, net.n_dst, dtype=torch.float64)
    whole = loss(net.run(clean))
    places = [(target, head) for target, n in net.targets() for head in range(n)]
    for number, (u, v) in enumerate(real(net)):
        if number % EVERY:
            continue
        target, head = places[v]
        probes = {key: value.detach().clone() for key, value in net.zero_probes(clean).items()}
        wide = isinstance(target, tuple) and target[1] in "qkv"
        (probes[target][head] if wide else probes[target])[0] += difference[u]
        found[u, v] = loss(net.run(clean, probes)) - whole
    return found


def real(net):
    return [(u, v) for u in range(net.n_src) for v in range(net.n_dst) if u < net.sources_before(v)]


def averages(net, pairs):
    """Over all positions of all sequences; and by position over the first two, which are equally long."""
    runs = []
    for pair in pairs:
        net.run(torch.tensor(pair["clean"]))
        runs.append((net.sources(), {key: value.detach() for key, value in net.kept.items()}))
    everywhere = lambda values: torch.cat(values, -2).mean(-2, keepdim=True)
    each = lambda of, runs: (of([run[0] for run in runs]), {key: of([run[1][key] for run in runs]) for key in runs[0][1]})
    return {
        "mean": each(everywhere, runs),
        "mean-positional": each(lambda values: sum(values) / len(values), runs[:2]),
    }


def main():
    import importlib

    tensors, sequences = {}, {}
    for name in MODELS:
        net = Net(name)
        importlib.import_module(type(net.hf).__module__).eager_attention_forward = attend
        pairs = sequences[name] = pairs_of(name, net.config.vocab_size)
        means, edges = averages(net, pairs), real(net)
        for title, plan in PLANS.items():
            relp = plan[1] == "relp"
            Rules.norms = Rules.products = Rules.activations = relp
            Rules.attention = relp and plan[4] == "attention"
            used = pairs[:2] if plan[2] == "mean-positional" else pairs
            mean = sum(score(net, pair, plan, means) for pair in used) / len(used)
            values = torch.stack([mean[edge] for edge in edges])
            tensors[f"{name}/{title}"] = values[::EVERY].contiguous() if plan[1] == "exact" else values
            print(name, title, len(edges), f"{values.abs().max():.3g}", flush=True)
        Rules.norms = Rules.products = Rules.activations = Rules.attention = False
    save_file(tensors, HERE / "models.safetensors")
    (HERE / "models.json").write_text(json.dumps(sequences, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
