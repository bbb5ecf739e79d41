"""The Arrow schema of every table between stages. Ids are hashes of content (``ids.py``); keys are unique."""

import pyarrow as pa

STRING = pa.string()
STRINGS = pa.list_(pa.string())
SCORES = pa.list_(pa.float32())


def _required(*columns: tuple[str, pa.DataType]) -> list[pa.Field]:
    return [pa.field(name, kind, nullable=False) for name, kind in columns]


CORPUS = pa.schema(_required(("task", STRING), ("doc_id", STRING), ("title", STRING), ("text", STRING)))
"""The documents of a corpus. Key: (task, doc_id), because BRIGHT's tasks share document ids."""

DOCUMENTS = pa.schema([*CORPUS, pa.field("reject_reason", STRING)])
"""The documents as a reader returns them; those with a reject reason do not become part of the corpus."""

QUESTIONS = pa.schema(
    _required(
        ("task", STRING),
        ("query_id", STRING),
        ("query", STRING),
        ("instruction", STRING),
        ("gold_ids", STRINGS),
        ("excluded_ids", STRINGS),
        ("gold_grades", pa.list_(pa.int32())),
    )
)

# Rejected rows stay in the files of their stage, with the reason and the engine's answer.
REJECT_FIELDS = [pa.field("reject_reason", STRING), pa.field("raw_answer", STRING)]

CLEANED = pa.schema(
    [
        *_required(("query_id", STRING), ("task", STRING), ("doc_id", STRING)),
        pa.field("belongs", pa.bool_()),
        *_required(("cleaner", STRING)),
        *REJECT_FIELDS,
    ]
)
"""The documents that may be sources of queries. Key: query_id, the id of the query that a document would yield."""

QUERIES = pa.schema(
    [
        *_required(("query_id", STRING), ("task", STRING), ("instruction", STRING)),
        pa.field("query", STRING),
        *_required(("source_doc_id", STRING)),
        pa.field("length_band", STRING),
        pa.field("education", STRING),
        *_required(("generator", STRING)),
        *REJECT_FIELDS,
    ]
)
"""The generated queries. Key: query_id."""

REWRITES = pa.schema(
    [
        *_required(("query_id", STRING)),
        pa.field("reasoning_query", STRING),
        *_required(("rewriter", STRING)),
        *REJECT_FIELDS,
    ]
)
"""The rewritten queries, with reasoning. Key: query_id."""

CANDIDATES = pa.schema(
    _required(
        ("pair_id", STRING),
        ("query_id", STRING),
        ("doc_id", STRING),
        ("rank", pa.int32()),
        ("score", pa.float32()),
        ("retriever", STRING),
    )
)
"""The candidate documents of each query. Key: pair_id."""

ANNOTATIONS = pa.schema(
    [
        *_required(("pair_id", STRING), ("query_id", STRING), ("doc_id", STRING)),
        pa.field("grade", pa.int32()),
        pa.field("score", pa.float32()),
        pa.field("rationale", STRING),
        *_required(("annotator", STRING)),
        *REJECT_FIELDS,
    ]
)
"""The relevance of candidates: ``grade`` 1 to 5, ``score`` in [0, 1]. Key: pair_id."""

TRAINING = pa.schema(
    [
        *_required(
            ("query_id", STRING),
            ("task", STRING),
            ("prompt", STRING),
            ("query", STRING),
            ("reasoning_query", STRING),
            ("pos", STRINGS),
            ("neg", STRINGS),
            ("pos_score", SCORES),
            ("neg_score", SCORES),
            ("pos_grade", pa.list_(pa.int32())),
            ("neg_grade", pa.list_(pa.int32())),
            ("train_group_size", pa.int32()),
            ("batch_size", pa.int32()),
        ),
        *REJECT_FIELDS,
    ]
)
"""The training rows: a query with its positive and negative passages. Key: query_id."""

EMBEDDINGS = pa.schema(_required(("text_id", STRING), ("embedding", SCORES)))
"""One vector per text. Key: text_id; a text that occurs twice in a corpus is encoded once."""

RANKING = pa.schema(
    _required(("task", STRING), ("query_id", STRING), ("doc_id", STRING), ("rank", pa.int32()), ("score", pa.float32()))
)
"""The documents that a system ranked for each question; rank 1 is the best. Key: (task, query_id, rank)."""
