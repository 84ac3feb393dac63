"""Details as lighteval saves them: one row a document, nested as its dataclasses are (needs pyarrow).

    python make.py
"""

import pyarrow as pa
import pyarrow.parquet as pq


def row(query, choices, gold, metric, **response):
    doc = {"query": query, "choices": choices, "gold_index": gold, "instruction": None, "id": "", "task_name": response.pop("task"),
           "generation_size": 8, "num_samples": 1, "specific": None}
    empty = {"input": query, "input_tokens": [1, 2], "text": [], "output_tokens": [], "text_post_processed": None, "reasonings": [],
             "logprobs": [], "argmax_logits_eq_gold": [], "truncated_tokens_count": 0, "padded_tokens_count": 0}
    return {"doc": doc, "model_response": empty | response, "metric": metric}


def write(name, rows):
    pq.write_table(pa.Table.from_pylist(rows), name)


TIME = "2026-01-02T03-04-05.678901"
write(f"details_math_{TIME}.parquet", [
    row("1+1?", ["2"], [0], {"extractive_match": 1.0}, task="lighteval|math|0", text=["It is \\boxed{2}."], output_tokens=[[5, 6, 7]],
        reasonings=["one and one"]),
    row("1/2?", ["\\frac12"], [0], {"extractive_match": 0.0}, task="lighteval|math|0", text=["So \\boxed{0.5}"], output_tokens=[[5, 6]]),
    row("2/3?", ["2/3"], [0], {"extractive_match": 1.0}, task="lighteval|math|0", text=["\\boxed{2/3} and so on and"],
        output_tokens=[[1, 2, 3, 4, 5, 6, 7, 8]]),
])
write(f"details_aime_{TIME}.parquet", [
    row("?", ["12"], [0], {"pass@k:k=1&n=2": 0.5}, task="lighteval|aime|0", text=["\\boxed{12}", "\\boxed{13}"], output_tokens=[[5], [6]]),
])
write(f"details_arc_{TIME}.parquet", [
    row("Q?", [" A", " B"], [1], {"acc": 1}, task="lighteval|arc|0", logprobs=[-2.0, -1.0], argmax_logits_eq_gold=[False, True]),
])
