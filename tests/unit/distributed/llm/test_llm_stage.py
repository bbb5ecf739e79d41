import pyarrow as pa
import pytest

from reasonembed import storage
from reasonembed.distributed.llm.llm_stage import collect_retriable


@pytest.fixture
def files(tmp_path):
    """Writes tables of rows and returns their paths."""

    def write(name, **columns):
        path = str(tmp_path / f"{name}.parquet")
        storage.write_table(pa.table(columns), path)
        return path

    return write


def attempt_file(files, name, rows):
    """A file of an attempt: (id, reason of rejection, retriable)."""
    ids, reasons, retriable = zip(*rows, strict=True)
    reasons = pa.array(reasons, pa.string())
    return files(name, id=list(ids), reject_reason=reasons, retriable=list(retriable), more=[1] * len(ids))


def test_only_rows_whose_latest_answer_was_invalid_are_repeated(files, tmp_path):
    inputs = [files("input-0", id=["a", "b", "c"], text=["A", "B", "C"]), files("input-1", id=["d"], text=["D"])]
    first = attempt_file(
        files,
        "first",
        [("a", None, False), ("b", "invalid", True), ("c", "too long", False), ("d", "invalid", True)],
    )
    repeated = str(tmp_path / "again.parquet")
    assert collect_retriable(inputs, [first], "id", repeated) == 2
    assert storage.read_columns(repeated).to_pylist() == [{"id": "b", "text": "B"}, {"id": "d", "text": "D"}]
    second = attempt_file(files, "second", [("b", None, False), ("d", "invalid", True)])
    third = str(tmp_path / "third.parquet")
    assert collect_retriable(inputs, [first, second], "id", third) == 1
    assert storage.read_columns(third)["id"].to_pylist() == ["d"]


def test_an_interrupted_attempt_continues_with_the_rows_it_began_with(files, tmp_path):
    inputs = [files("input", id=["a"], text=["A"])]
    repeated = files("again", id=["x", "y"], text=["X", "Y"])
    attempt = attempt_file(files, "first", [("a", "invalid", True)])
    assert collect_retriable(inputs, [attempt], "id", repeated) == 2
    assert storage.read_columns(repeated)["id"].to_pylist() == ["x", "y"]


def test_without_an_invalid_answer_no_file_is_written(files, tmp_path):
    inputs = [files("input", id=["a", "b"], text=["A", "B"])]
    attempt = attempt_file(files, "first", [("a", None, False), ("b", "too long", False)])
    repeated = str(tmp_path / "again.parquet")
    assert collect_retriable(inputs, [attempt], "id", repeated) == 0
    assert not storage.exists(repeated)
