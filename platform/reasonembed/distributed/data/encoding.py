"""The stage ``encode`` on Ray Data: texts to vectors on a pool of encoders.

No text is encoded twice by one model with the same settings: vectors of any finished encoding under the same root are
reused.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reasonembed import ids, schemas, storage
from reasonembed.artifacts import Artifact, scratch_uri
from reasonembed.config import Encode, Resources, Run
from reasonembed.distributed.data.row_stage import RowStage, checkpointed_rows, compact_rows, write_rows
from reasonembed.distributed.data.worker_cache import Worker
from reasonembed.distributed.data.worker_pool import worker_pool
from reasonembed.embedder.prompts import document_text

TEXTS = pa.schema([("text_id", pa.string()), ("text", pa.string())])
TEXT_IDS = pa.schema([schemas.EMBEDDINGS.field("text_id")])


def encode_corpus(
    corpus: Artifact,
    model: str,
    settings: Encode,
    earlier: Sequence[Artifact],
    run: Run,
    resources: Resources,
    uri: str,
) -> dict[str, Any]:
    """Writes ``schemas.EMBEDDINGS`` of ``schemas.CORPUS`` below ``uri``, the longest texts first.

    Args:
        corpus: the documents.
        model: folder or hub id.
        settings: of encoding.
        earlier: finished encodings with the same model and settings.
        run: number of workers and block size.
        resources: of one worker.
        uri: of the artifact.

    Returns:
        Figures: ``rows`` (distinct texts), of which ``encoded`` by this run, ``resumed`` from an interrupted one, and
        ``cached`` from earlier encodings.
    """
    texts = distinct_texts(corpus.table(schemas.CORPUS))
    all_texts = scratch_uri(uri, "texts.parquet")
    storage.write_table(texts, all_texts)
    earlier_files = [file for artifact in earlier for file in artifact.parquet()]
    encoded_ids = storage.read_table(earlier_files, TEXT_IDS)["text_id"].unique()
    missing = texts.filter(pc.invert(pc.is_in(texts["text_id"], value_set=encoded_ids)))
    stage = RowStage("encode", schemas.EMBEDDINGS, "text_id", run.rows_per_block, resources=resources)
    written: list[str] = []
    resumed = checkpointed_rows(uri)
    if missing.num_rows:
        path = scratch_uri(uri, "missing.parquet")
        storage.write_table(missing, path)
        make_worker = partial(encoding_worker, model, settings, resources.device)
        pool = worker_pool(make_worker, schemas.EMBEDDINGS, run.actors, resources)
        written = write_rows(stage, pool, [path], uri)
    compact_rows(stage, [*earlier_files, *written], [all_texts], uri)
    cached = texts.num_rows - missing.num_rows
    return {"rows": texts.num_rows, "encoded": missing.num_rows - resumed, "resumed": resumed, "cached": cached}


def distinct_texts(corpus: pa.Table) -> pa.Table:
    """Returns ``TEXTS`` of a corpus, each once, longest first, so that the texts of a block have similar lengths."""
    titles, bodies = corpus["title"].to_pylist(), corpus["text"].to_pylist()
    texts = list(dict.fromkeys(document_text(title, body) for title, body in zip(titles, bodies, strict=True)))
    table = pa.table([[ids.text_id(text) for text in texts], texts], schema=TEXTS)
    return table.take(np.argsort([-len(text) for text in texts], kind="stable"))


def encoding_worker(model: str, settings: Encode, device: str) -> Worker:
    """Returns a worker from ``TEXTS`` to ``schemas.EMBEDDINGS``."""
    from reasonembed.embedder.model import Embedder

    embedder = Embedder.load(model, settings, device)

    def encode(rows: pa.Table) -> pa.Table:
        vectors = embedder.encode(
            rows["text"].to_pylist(), settings.max_tokens, settings.batch_tokens, embedder.prompt("document")
        )
        flat = pa.array(vectors.reshape(-1), pa.float32())
        offsets = pa.array(np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1])
        embedding = pa.ListArray.from_arrays(offsets, flat)
        return pa.table([rows["text_id"], embedding], schema=schemas.EMBEDDINGS)

    return encode
