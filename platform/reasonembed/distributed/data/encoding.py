"""Texts to vectors over a pool of encoders, none of them twice: what any finished encoding under the same root has of
this model, with these settings, is taken from there."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reasonembed import ids, schemas, storage
from reasonembed.artifacts import SCRATCH, Artifact
from reasonembed.config import Resources, Run
from reasonembed.distributed.data.row_stage import RowStage, compact_rows, rows_noted, worker_pool, write_rows
from reasonembed.distributed.data.worker_cache import Worker
from reasonembed.embedder.prompts import document_text

TEXTS = pa.schema([("text_id", pa.string()), ("text", pa.string())])
KEYS = pa.schema([schemas.EMBEDDINGS.field("text_id")])


def encode_corpus(
    corpus: pa.Table,
    make_worker: Callable[[], Worker],
    earlier: Sequence[Artifact],
    run: Run,
    place: Resources,
    uri: str,
) -> dict[str, Any]:
    """``schemas.CORPUS`` to ``schemas.EMBEDDINGS`` below ``uri``, the longest texts first.

    Args:
        corpus: the documents.
        make_worker: ``TEXTS`` to embeddings.
        earlier: finished encodings with the same model and settings.
        run: sizes of the pool and of a block.
        place: of a worker.
        uri: of the artefact.

    Returns:
        Figures: ``rows`` (distinct texts), of which ``encoded`` by this run, ``resumed`` from one that was interrupted,
        and ``cached`` from earlier encodings.
    """
    texts = distinct_texts(corpus)
    wanted = storage.join(uri, SCRATCH, "texts.parquet")
    storage.write_table(texts, wanted)
    known = [file for artifact in earlier for file in artifact.parquet()]
    there = storage.read_table(known, KEYS)["text_id"].unique()
    missing = texts.filter(pc.invert(pc.is_in(texts["text_id"], value_set=there)))
    stage = RowStage(
        "encode",
        worker_pool(make_worker, schemas.EMBEDDINGS, run.actors, place),
        schemas.EMBEDDINGS,
        "text_id",
        run.rows_per_block,
        place=place,
    )
    written: list[str] = []
    resumed = rows_noted(uri)
    if missing.num_rows:
        path = storage.join(uri, SCRATCH, "missing.parquet")
        storage.write_table(missing, path)
        written = write_rows(stage, [path], uri)
    compact_rows(stage, [*known, *written], [wanted], uri)
    cached = texts.num_rows - missing.num_rows
    return {"rows": texts.num_rows, "encoded": missing.num_rows - resumed, "resumed": resumed, "cached": cached}


def distinct_texts(corpus: pa.Table) -> pa.Table:
    """``TEXTS`` of the corpus, each once, longest first, so that the texts of a block are of like length."""
    titles, bodies = corpus["title"].to_pylist(), corpus["text"].to_pylist()
    texts = list(dict.fromkeys(document_text(title, body) for title, body in zip(titles, bodies, strict=True)))
    table = pa.table([[ids.text_id(text) for text in texts], texts], schema=TEXTS)
    return table.take(np.argsort([-len(text) for text in texts], kind="stable"))
