"""Evaluation of a model in training on queries that are held out of training."""

from typing import Any

import ir_measures
import pyarrow as pa
import torch
from ir_measures import nDCG

from reasonembed.config import Encode, Train
from reasonembed.embedder.prompts import query_text
from reasonembed.redapter.batch_plan import rows_per_rank
from reasonembed.redapter.engines import TrainingEngine
from reasonembed.redapter.gather import max_over_ranks, rank, sum_over_ranks, world_size
from reasonembed.redapter.grad_cache import micro_batches, representations


@torch.no_grad()
def evaluate_held_out(engine: TrainingEngine, held_out: pa.Table, settings: Train, encode: Encode) -> float:
    """Computes the mean nDCG@10 of rankings in which every query ranks its own positives and negatives.

    Every rank must call this; all get the same value.

    Args:
        engine: with the model.
        held_out: rows of ``schemas.TRAINING``.
        settings: of training.
        encode: form of the queries.

    Returns:
        A number between 0 and 1.
    """
    counts = rows_per_rank(held_out.num_rows, world_size())
    rows = held_out.slice(sum(counts[: rank()]), counts[rank()]).to_pylist()
    query_prompt, document_prompt = engine.model.prompt("query"), engine.model.prompt("document")
    queries = [query_text(row["query"], row["prompt"], encode.instruct, query_prompt) for row in rows]
    passages = [document_prompt + text for row in rows for text in (*row["pos"], *row["neg"])]
    engine.model.eval()
    query_vectors, passage_vectors = (_encode(engine, texts, settings) for texts in (queries, passages))
    engine.model.train()
    ndcg_sum, start = 0.0, 0
    for number, row in enumerate(rows):
        size = len(row["pos"]) + len(row["neg"])
        scores = (passage_vectors[start : start + size] @ query_vectors[number]).tolist()
        start += size
        qrels = {"q": {f"d{position}": 1 for position in range(len(row["pos"]))}}
        run = {"q": {f"d{position}": score for position, score in enumerate(scores)}}
        ndcg_sum += float(ir_measures.calc_aggregate([nDCG @ 10], qrels, run)[nDCG @ 10])
    device = query_vectors.device
    return sum_over_ranks(torch.tensor(ndcg_sum, dtype=torch.float64, device=device)).item() / int(held_out.num_rows)


def _encode(engine: TrainingEngine, texts: list[str], settings: Train) -> torch.Tensor:
    """Returns (texts, dim) unit vectors of this rank's texts."""
    device: Any = next(engine.model.parameters()).device
    ids = engine.model.tokenize(texts, settings.max_tokens)
    batches = micro_batches(ids, settings.batch_tokens, 0, same_number_on_all_ranks=False, device=device)
    vectors = representations(engine, batches)
    # With ZeRO-3 a forward pass gathers weights from all ranks, so every rank must run the same number of passes.
    for _ in range(max_over_ranks(len(batches), device) - len(batches)):
        one_text = micro_batches(ids[:1], settings.batch_tokens, 0, same_number_on_all_ranks=False, device=device)
        representations(engine, one_text)
    return vectors
