"""The files of an index artifact: one folder per shard, with the vector index, the documents and BM25 weights."""

import pyarrow as pa

INDEXED_DOCUMENTS = pa.schema([("task", pa.string()), ("doc_id", pa.string()), ("text", pa.string())])
"""Schema of ``DOCUMENTS_FILE``; the rows are in the order of the positions in the vector index."""
INDEX_FILE, DOCUMENTS_FILE, BM25_FOLDER = "index.faiss", "documents.parquet", "bm25"


def shard_folder(shard: int) -> str:
    """Returns the name of a shard's folder below the artifact."""
    return f"shard-{shard:05d}"
