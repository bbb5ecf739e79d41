import pyarrow as pa
from llm_test_tasks import SCHEMA, RecordingUsage, word_rows

from reasonembed.distributed.llm.extractive_engine import LocalEngineWorker
from reasonembed.llm.protocol import Answer
from reasonembed.llm.task_rows import scratch_schema


class CapitalsEngine:
    name = "capitals"

    def __init__(self):
        self.batches = []

    def answer(self, requests):
        self.batches.append([request.fields["text"] for request in requests])
        return [Answer(text=f'{{"word": "{request.fields["text"].upper()}"}}', seconds=0.5) for request in requests]


def test_a_batch_is_answered_at_once_and_rows_without_a_request_keep_their_place():
    engine, usage = CapitalsEngine(), RecordingUsage()
    worker = LocalEngineWorker(word_rows(), lambda: engine, usage)
    table = worker(pa.table({"id": ["1", "2", "3"], "text": ["one", "", "three"]}))
    assert table.schema == scratch_schema(SCHEMA)
    assert table["word"].to_pylist() == ["ONE", None, "THREE"]
    assert table["reject_reason"].to_pylist() == [None, "no request can be made of the row: no text", None]
    assert table["engine_seconds"].to_pylist() == [0.5, None, 0.5]
    assert engine.batches == [["one", "three"]]
    assert usage.counts == [(3, 1, 0, 0)]
