"""How well the model ranks the passages of queries that were held out of training."""

from typing import Any

import ir_measures
import pyarrow as pa
import torch
from ir_measures import nDCG

from reasonembed.config import Encode, Train
from reasonembed.embedder.prompts import query_text
from reasonembed.redapter.batch_plan import shares
from reasonembed.redapter.engines import TrainingEngine
from reasonembed.redapter.gather import largest, rank, total, world_size
from reasonembed.redapter.grad_cache import embed, tower


@torch.no_grad()
def evaluate_held_out(engine: TrainingEngine, dev: pa.Table, settings: Train, encode: Encode) -> float:
    """Mean nDCG@10 over rows of ``schemas.TRAINING``: every query ranks its own positives and negatives.

    Every rank must call this; all get the same value.
    """
    counts = shares(dev.num_rows, world_size())
    rows = dev.slice(sum(counts[: rank()]), counts[rank()]).to_pylist()
    asked, told = engine.model.prompt("query"), engine.model.prompt("document")
    queries = [query_text(row["query"], row["prompt"], encode.instruct, asked) for row in rows]
    passages = [told + text for row in rows for text in (*row["pos"], *row["neg"])]
    engine.model.eval()
    q, p = (_embed(engine, texts, settings) for texts in (queries, passages))
    engine.model.train()
    gained, start = 0.0, 0
    for number, row in enumerate(rows):
        size = len(row["pos"]) + len(row["neg"])
        scores = (p[start : start + size] @ q[number]).tolist()
        start += size
        relevant = {"q": {f"d{place}": 1 for place in range(len(row["pos"]))}}
        run = {"q": {f"d{place}": score for place, score in enumerate(scores)}}
        gained += float(ir_measures.calc_aggregate([nDCG @ 10], relevant, run)[nDCG @ 10])
    return total(torch.tensor(gained, dtype=torch.float64, device=q.device)).item() / int(dev.num_rows)


def _embed(engine: TrainingEngine, texts: list[str], settings: Train) -> torch.Tensor:
    ids = engine.model.tokenize(texts, settings.max_tokens)
    found = tower(ids, settings.batch_tokens, 0, same_on_all_ranks=False, device=_device(engine))
    vectors = embed(engine, found)
    # With ZeRO-3 a forward pass gathers weights from all ranks: those with fewer texts go along.
    for _ in range(largest(len(found.passes), _device(engine)) - len(found.passes)):
        embed(engine, tower(ids[:1], settings.batch_tokens, 0, same_on_all_ranks=False, device=_device(engine)))
    return vectors


def _device(engine: TrainingEngine) -> Any:
    return next(engine.model.parameters()).device
