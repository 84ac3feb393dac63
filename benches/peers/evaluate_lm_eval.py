"""Runs lm-evaluation-harness (PyPI: lm_eval, with torch and transformers) and `evaluate` on the same model and task files.

    python benches/peers/evaluate_lm_eval.py check  [--bin target/release]
    python benches/peers/evaluate_lm_eval.py speed  [--bin target/release] [--documents 8] [--shots 5] [--models DIR]

check  a tiny model with random weights: same prompts, same hashes, equal accuracies, log-likelihoods within 1e-4.
speed  the shape of Qwen2.5-0.5B with random weights, f32 on the CPU, in turns: seconds for multiple choice with a shared few-shot
       prefix and for generating 64 texts of unequal lengths, from start to end: starting, loading and digests included.

Without Python, lm_eval or torch there is nothing to compare with: the script says so and ends well.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

QWEN = dict(hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2,
            vocab_size=151936, max_position_embeddings=4096, rope_theta=1e6, tie_word_embeddings=True, rms_norm_eps=1e-6)
TINY = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            vocab_size=400, max_position_embeddings=1024, rope_theta=1e4, tie_word_embeddings=True, rms_norm_eps=1e-6)
WORDS = "the of a river stone light heavy water because small number seven blue market doctor green window answer".split()

COMMON = """
dataset_path: json
dataset_kwargs: {data_files: {test: DATA/test.jsonl, dev: DATA/dev.jsonl}}
test_split: test
fewshot_split: dev
doc_to_text: "Question: {{question}}\\nAnswer:"
metadata: {version: 1.0}
"""
TASKS = {
    "choice": "output_type: multiple_choice\nfewshot_config: {sampler: first_n}\nnum_fewshot: SHOTS\ndoc_to_choice: choices\n"
              "doc_to_target: gold\nmetric_list:\n- {metric: acc, aggregation: mean, higher_is_better: true}\n"
              "- {metric: acc_norm, aggregation: mean, higher_is_better: true}\n",
    "drawn": "output_type: multiple_choice\nnum_fewshot: 3\ndoc_to_choice: choices\ndoc_to_target: gold\nmetric_list:\n"
             "- {metric: acc, aggregation: mean, higher_is_better: true}\n- {metric: acc_mutual_info, aggregation: mean, higher_is_better: true}\n",
    "lambada": "output_type: loglikelihood\nnum_fewshot: 1\ndoc_to_target: \" {{choices[gold]}}\"\nmetric_list:\n"
               "- {metric: perplexity, aggregation: perplexity, higher_is_better: false}\n- {metric: acc, aggregation: mean, higher_is_better: true}\n",
    "rolling": "output_type: loglikelihood_rolling\ndoc_to_target: question\nmetric_list:\n"
               "- {metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}\n",
    "write": "output_type: generate_until\ndoc_to_target: \"{{choices[gold]}}\"\ngeneration_kwargs: {until: UNTIL, do_sample: false, max_gen_toks: TOKENS}\n"
             "metric_list:\n- {metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true}\n",
}


def documents(n, seed, unequal):
    draw = random.Random(seed)
    phrase = lambda n: " ".join(draw.choice(WORDS) for _ in range(n))
    for _ in range(n):
        length = draw.randint(4, 120) if unequal else draw.randint(20, 40)
        yield {"question": phrase(length) + "?", "choices": [phrase(draw.randint(2, 6)) for _ in range(4)], "gold": draw.randint(0, 3)}


def write_tasks(folder, names, args):
    folder.mkdir()
    for split, n, seed in [("test", args.documents, 1), ("dev", 12, 2)]:
        lines = [json.dumps(one) for one in documents(n, seed, args.unequal)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    for name in names:
        text = f"task: {name}\n" + COMMON + TASKS[name]
        for key, value in [("DATA", folder), ("SHOTS", args.shots), ("UNTIL", json.dumps(args.until)), ("TOKENS", args.tokens)]:
            text = text.replace(key, str(value))
        (folder / f"{name}.yaml").write_text(text)


def write_model(folder, shape, spread):
    """Random weights under a byte-level tokenizer that has learnt the words."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=380, special_tokens=["<end>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([one["question"] for one in documents(200, 3, True)], trainer)
    # Every number of the vocabulary is a text, so that what random weights write ends at stop strings, sooner or later.
    known = json.loads(tokenizer.to_str())
    taken = len(known["model"]["vocab"])
    known["model"]["vocab"].update({f"Ġ{number}": number for number in range(taken, shape["vocab_size"])})
    tokenizer = Tokenizer.from_str(json.dumps(known))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>").save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(**shape, bos_token_id=None, eos_token_id=tokenizer.token_to_id("<end>"))
    model = Qwen2ForCausalLM(config).float()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, spread)
    model.save_pretrained(folder)


def run_theirs(model, folder, names, out, batch, limit=None):
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args", f"pretrained={model},dtype=float32",
               "--tasks", *names, "--include_path", str(folder), "--device", "cpu", "--batch_size", str(batch),
               "--output_path", str(out), "--log_samples", *(["--limit", str(limit)] if limit else [])]
    start = time.perf_counter()
    done = subprocess.run(command, env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1",
                                        "HF_HOME": str(folder) + ".home"}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"lm_eval failed: {done.stderr[-2000:]}")
    return time.perf_counter() - start


def run_ours(model, folder, names, out, args, limit=None):
    command = [str(Path(args.bin) / "evaluate"), "run", "-q", "--model", f"m={model}", "--tasks",
               *[str(folder / f"{name}.yaml") for name in names], "-o", f"{out}.parquet", "--lm-eval", str(out), "--batch", str(args.batch),
               *(["--limit", str(limit)] if limit else [])]
    start = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - start


def read(out, names):
    """The results, and the lines of every task's samples file."""
    results = json.loads(max(Path(out).rglob("results_*.json")).read_text())
    lines = lambda name: max(Path(out).rglob(f"samples_{name}_*.jsonl")).read_text().splitlines()
    samples = {name: sorted(map(json.loads, lines(name)), key=lambda one: one["doc_id"]) for name in names}
    return results, samples


def compare(theirs, ours, names):
    (results_a, samples_a), (results_b, samples_b) = theirs, ours
    worst = 0.0
    for name in names:
        assert len(samples_a[name]) == len(samples_b[name]), name
        for a, b in zip(samples_a[name], samples_b[name]):
            for key in ["doc", "target", "arguments", "doc_hash", "prompt_hash", "target_hash", "filter", "metrics"]:
                assert a[key] == b[key], (name, a["doc_id"], key, a[key], b[key])
            assert list(a) == list(b), (name, list(a), list(b))
            if name == "write":
                assert a["resps"] == b["resps"], (name, a["doc_id"], a["resps"], b["resps"])
                continue
            for x, y in zip(a["resps"], b["resps"]):
                x, y = x[0], y[0]
                if name != "rolling":
                    assert x[1] == y[1], (name, a["doc_id"], x, y)
                    x, y = x[0], y[0]
                # Their sums are 32-bit numbers: of a whole text, they are no finer than a few 1e-5 themselves.
                difference = abs(float(x) - float(y))
                assert difference < 1e-4 + abs(float(x)) * 2**-22, (name, a["doc_id"], x, y)
                worst = max(worst, difference)
        assert results_a["task_hashes"][name] == results_b["task_hashes"][name], name
        for key, value in results_a["results"][name].items():
            other = results_b["results"][name][key]
            same = value == other or (isinstance(value, float) and abs(value - other) < 1e-4 * max(1.0, abs(value)))
            assert same, (name, key, value, other)
    return worst


def check(args, folder):
    names = list(TASKS)
    args.documents, args.shots, args.tokens, args.until, args.unequal = 24, 3, 24, ["7", "the"], True
    write_tasks(folder / "tasks", names, args)
    write_model(folder / "model", TINY, 0.1)
    run_theirs(folder / "model", folder / "tasks", names, folder / "theirs", 4)
    run_ours(folder / "model", folder / "tasks", names, folder / "ours", args)
    worst = compare(read(folder / "theirs", names), read(folder / "ours", names), names)
    print(f"{len(names)} tasks of {args.documents} documents: prompts, hashes, texts and accuracies equal, "
          f"log-likelihoods within {worst:.1e}")


def speed(args, folder):
    model = Path(args.models or folder) / "qwen2.5-0.5b-shape"
    if not model.exists():
        write_model(model, QWEN, 0.02)
    args.until = ["77"]
    for name, documents, unequal in [("choice", args.documents, False), ("write", 64, True)]:
        if args.only not in (None, name):
            continue
        args.documents, args.unequal = documents, unequal
        tasks = folder / f"tasks-{name}"
        write_tasks(tasks, [name], args)
        # Once unmeasured: the weights are in the system's cache for both.
        run_ours(model, tasks, [name], folder / f"warm-{name}", args, 1)
        ours = run_ours(model, tasks, [name], folder / f"ours-{name}", args)
        theirs = run_theirs(model, tasks, [name], folder / f"theirs-{name}", args.theirs_batch)
        print(f"{name}: {documents} documents, evaluate {ours:.1f} s, lm_eval {theirs:.1f} s, ratio {theirs / ours:.1f}", flush=True)
        if args.verify:
            worst = compare(read(folder / f"theirs-{name}", [name]), read(folder / f"ours-{name}", [name]), [name])
            print(f"{name}: same answers, log-likelihoods within {worst:.1e}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["check", "speed"])
    parser.add_argument("--bin", default="target/release")
    parser.add_argument("--documents", type=int, default=8)
    parser.add_argument("--models", help="where the large model is kept for the next time")
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--only", choices=["choice", "write"])
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--theirs-batch", type=int, default=8)
    parser.add_argument("--verify", action="store_true")
    args = parser.parse_args()
    try:
        import lm_eval  # noqa: F401
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        print(f"nothing to compare with: {error}")
        return
    with tempfile.TemporaryDirectory() as folder:
        (check if args.what == "check" else speed)(args, Path(folder))


if __name__ == "__main__":
    main()
