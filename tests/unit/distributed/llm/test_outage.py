import pytest
from llm_test_tasks import RecordingUsage, Reference

from reasonembed.distributed.llm import outage
from reasonembed.distributed.llm.outage import OUTAGE_ROWS, batch_failure, guarded, report_outage
from reasonembed.llm.circuit_breaker import EngineUnavailable
from reasonembed.llm.reject_reasons import NO_REQUEST, TOO_LONG

FAILED = "transport: RuntimeError: CUDA error"


@pytest.mark.parametrize("others", [[], [TOO_LONG], [f"{NO_REQUEST}: no text"] * 3])
def test_a_batch_of_which_no_row_was_processed_is_an_outage(others):
    reasons = [*others, *[FAILED] * OUTAGE_ROWS, "transport: TimeoutError"]
    assert batch_failure(reasons) == f"all 6 requests of a batch have failed ({FAILED})"


@pytest.mark.parametrize(
    "reasons",
    [
        [],
        [None] * 9,
        [FAILED] * (OUTAGE_ROWS - 1),
        [*[FAILED] * 30, None],
        [*[FAILED] * 30, "invalid answer: answer: json_invalid"],
        [TOO_LONG] * 30,
    ],
)
def test_a_processed_row_or_few_failures_are_no_outage(reasons):
    assert batch_failure(reasons) is None


class RecordingDataset:
    """Records what is written."""

    def __init__(self):
        self.written = []

    def write_parquet(self, path, **options):
        self.written.append((path, options))


@pytest.mark.parametrize("message", [None, "the key is refused"])
def test_an_outage_is_raised_when_the_answers_are_written(monkeypatch, message):
    monkeypatch.setattr(outage.ray, "get", Reference.get)
    usage, dataset = RecordingUsage(), RecordingDataset()
    rows = guarded(lambda rows: rows, usage)(dataset)
    if message is None:
        rows.write_parquet("folder", compression="zstd")
    else:
        report_outage(EngineUnavailable(message), usage)
        with pytest.raises(EngineUnavailable, match=message):
            rows.write_parquet("folder", compression="zstd")
    assert dataset.written == [("folder", {"compression": "zstd"})]


def test_without_a_driver_to_report_to_the_worker_raises():
    with pytest.raises(EngineUnavailable, match="gone"):
        report_outage(EngineUnavailable("gone"), None)
