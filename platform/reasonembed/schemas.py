"""The Arrow schema of every table between stages. Keys are content-hash ids (``ids.py``); one row per key."""

import pyarrow as pa

STRING = pa.string()
STRINGS = pa.list_(pa.string())
SCORES = pa.list_(pa.float32())


def _required(*columns: tuple[str, pa.DataType]) -> list[pa.Field]:
    return [pa.field(name, kind, nullable=False) for name, kind in columns]


# key (task, doc_id): BRIGHT's tasks may share document ids
CORPUS = pa.schema(_required(("task", STRING), ("doc_id", STRING), ("title", STRING), ("text", STRING)))

# what a reader finds: a document whose text is no text has a reason in it, and is no part of the corpus
DOCUMENTS = pa.schema([*CORPUS, pa.field("reject_reason", STRING)])

# key (task, query_id): the questions of a benchmark
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

# Row stages write rejected rows into their own files, with the reason; `raw_answer` is what the engine said.
REJECT = [pa.field("reject_reason", STRING), pa.field("raw_answer", STRING)]

# of the documents that may be sources; the query id is that of the query a document would yield
CLEANED = pa.schema(
    [
        *_required(("query_id", STRING), ("task", STRING), ("doc_id", STRING)),
        pa.field("belongs", pa.bool_()),
        *_required(("cleaner", STRING)),
        *REJECT,
    ]
)

QUERIES = pa.schema(
    [
        *_required(("query_id", STRING), ("task", STRING), ("instruction", STRING)),
        pa.field("query", STRING),
        *_required(("source_doc_id", STRING)),
        pa.field("length_band", STRING),
        pa.field("education", STRING),
        *_required(("generator", STRING)),
        *REJECT,
    ]
)

REWRITES = pa.schema(
    [
        *_required(("query_id", STRING)),
        pa.field("reasoning_query", STRING),
        *_required(("rewriter", STRING)),
        *REJECT,
    ]
)

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

ANNOTATIONS = pa.schema(
    [
        *_required(("pair_id", STRING), ("query_id", STRING), ("doc_id", STRING)),
        pa.field("grade", pa.int32()),
        pa.field("score", pa.float32()),
        pa.field("rationale", STRING),
        *_required(("annotator", STRING)),
        *REJECT,
    ]
)

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
        *REJECT,
    ]
)

# key text_id (``ids.text_id``): a text that stands in a corpus twice is encoded once
EMBEDDINGS = pa.schema(_required(("text_id", STRING), ("embedding", SCORES)))

# key (task, query_id, rank): what a system found for a benchmark's questions, best first
RANKING = pa.schema(
    _required(("task", STRING), ("query_id", STRING), ("doc_id", STRING), ("rank", pa.int32()), ("score", pa.float32()))
)
