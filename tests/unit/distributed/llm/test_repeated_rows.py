import pyarrow as pa
import pytest

from reasonembed import storage
from reasonembed.distributed.llm.repeated_rows import check_transport, collect_repeated, latest_rejects
from reasonembed.errors import JobFailed
from reasonembed.llm.reject_reasons import TOO_LONG

INVALID, TRANSPORT, REFUSED = "invalid answer: word: missing", "transport: HTTP 503", "server: HTTP 400: bad value"


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
    assert collect_repeated(inputs, [[first]], "id", repeated, 3) == 2
    assert storage.read_columns(repeated).to_pylist() == [{"id": "b", "text": "B"}, {"id": "d", "text": "D"}]
    second = attempt_file(files, "second", [("b", None, False), ("d", "invalid", True)])
    third = str(tmp_path / "third.parquet")
    assert collect_repeated(inputs, [[first], [second]], "id", third, 3) == 1
    assert storage.read_columns(third)["id"].to_pylist() == ["d"]


def test_an_interrupted_attempt_continues_with_the_rows_it_began_with(files, tmp_path):
    inputs = [files("input", id=["a"], text=["A"])]
    repeated = files("again", id=["x", "y"], text=["X", "Y"])
    attempt = attempt_file(files, "first", [("a", "invalid", True)])
    assert collect_repeated(inputs, [[attempt]], "id", repeated, 3) == 2
    assert storage.read_columns(repeated)["id"].to_pylist() == ["x", "y"]


def test_without_an_invalid_answer_no_file_is_written(files, tmp_path):
    inputs = [files("input", id=["a", "b"], text=["A", "B"])]
    attempt = attempt_file(files, "first", [("a", None, False), ("b", "too long", False)])
    repeated = str(tmp_path / "again.parquet")
    assert collect_repeated(inputs, [[attempt]], "id", repeated, 3) == 0
    assert not storage.exists(repeated)


ROWS = [
    ("accepted", None, False),
    ("invalid", INVALID, True),
    ("transport", TRANSPORT, True),
    ("too long", TOO_LONG, False),
    ("refused", REFUSED, False),
    ("no request", "no request can be made of the row: no text", False),
]


@pytest.mark.parametrize(
    ("attempts", "in_new_run", "expected"),
    [
        (2, False, ["invalid", "transport"]),
        (1, False, ["transport"]),
        (2, True, ["invalid", "transport", "too long", "refused"]),
        (1, True, ["transport", "too long", "refused"]),
    ],
)
def test_a_new_run_repeats_what_another_server_or_limit_may_answer(files, tmp_path, attempts, in_new_run, expected):
    inputs = [files("input", id=[row_id for row_id, *_ in ROWS])]
    repeated = str(tmp_path / "again.parquet")
    count = collect_repeated(inputs, [[attempt_file(files, "first", ROWS)]], "id", repeated, attempts, in_new_run)
    assert count == len(expected)
    assert storage.read_columns(repeated)["id"].to_pylist() == expected


def test_failed_requests_do_not_count_as_invalid_answers(files, tmp_path):
    attempts = [
        [attempt_file(files, f"attempt-{n}", [("a", reason, True)])]
        for n, reason in enumerate([TRANSPORT, INVALID, TRANSPORT, INVALID])
    ]
    assert latest_rejects(attempts, "id")["a"].invalid_answers == 2
    inputs = [files("input", id=["a"])]
    assert collect_repeated(inputs, attempts, "id", str(tmp_path / "three.parquet"), 3) == 1
    assert collect_repeated(inputs, attempts, "id", str(tmp_path / "two.parquet"), 2) == 0
    assert collect_repeated(inputs, attempts, "id", str(tmp_path / "new.parquet"), 2, in_new_run=True) == 0
    assert collect_repeated(inputs, attempts[:3], "id", str(tmp_path / "transport.parquet"), 1) == 1


def test_an_attempt_may_have_many_files(files):
    attempts = [
        [attempt_file(files, "a", [("1", TRANSPORT, True)]), attempt_file(files, "b", [("2", TRANSPORT, True)])],
        [attempt_file(files, "c", [("2", None, False)])],
    ]
    assert list(latest_rejects(attempts, "id")) == ["1"]


def test_failed_requests_that_remain_end_the_job_with_their_reasons(files):
    rows = [("a", TRANSPORT, True), ("b", "transport: TimeoutError", True), ("c", TRANSPORT, True), ("d", None, False)]
    first = [attempt_file(files, "first", rows)]
    with pytest.raises(JobFailed) as raised:
        check_transport("annotate", [first], "id")
    message = str(raised.value)
    assert message.startswith("annotate: 3 rows have no answer")
    assert "2 × transport: HTTP 503; 1 × transport: TimeoutError" in message
    assert "run the same command again" in message
    assert "\n" not in message
    second = [attempt_file(files, "second", [("a", None, False), ("b", INVALID, True), ("c", TOO_LONG, False)])]
    check_transport("annotate", [first, second], "id")
