"""Attempts, runs and rejects of an LLM stage, with Ray replaced by functions of this process."""

from contextlib import contextmanager
from types import SimpleNamespace

import pyarrow as pa
import pytest
from llm_test_tasks import SCHEMA, RecordingUsage, Reference, WordTask
from ray.exceptions import RayActorError

from reasonembed import storage
from reasonembed.config import Config
from reasonembed.distributed.data import row_stage
from reasonembed.distributed.llm import llm_stage, outage
from reasonembed.distributed.llm.adapters import ADAPTERS, EngineAdapter
from reasonembed.distributed.llm.llm_stage import run_llm_job
from reasonembed.errors import JobFailed
from reasonembed.llm.circuit_breaker import EngineUnavailable
from reasonembed.llm.job import LlmJob
from reasonembed.llm.protocol import Answer
from reasonembed.llm.reject_reasons import TOO_LONG

IDS = [f"row {n}" for n in range(10)]
VALID = Answer(text='{"word": "w"}', input_tokens=2, output_tokens=1)
INVALID = Answer(text="no JSON")
TRANSPORT = Answer(error="transport: HTTP 503")
LONG = Answer(error=TOO_LONG, permanent=True)
BLOCK_ROWS = 3


class ScriptedEngine:
    """Answers rows from a script: answers by row, the last one for all further requests; other rows get valid answers.

    An exception in the script ends the block; from ``None`` on, the engine is unavailable.
    """

    def __init__(self):
        self.script = {}
        self.requests = []
        """(attempt, id) of every request."""
        self.usage = None

    def start_run(self):
        """Starts a new process: nothing of an earlier one is known."""
        self.requests.clear()
        self.usage = RecordingUsage()

    def transform(self, attempt):
        return lambda blocks: ScriptedDataset(self._table(attempt, block) for block in blocks)

    def _table(self, attempt, block):
        rows = block.to_pylist()
        answers = [self._answer(attempt.number, row["id"]) for row in rows]
        answered = [(row, answer) for row, answer in zip(rows, answers, strict=True) if answer is not None]
        return attempt.rows.table([row for row, _ in answered], [answer for _, answer in answered])

    def _answer(self, number, row_id):
        if self.usage.outages:
            return None
        self.requests.append((number, row_id))
        answers = self.script.get(row_id, [VALID])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            self.usage.outages.append("the key is refused")
        return answer

    def requests_of(self, number):
        return [row_id for attempt, row_id in self.requests if attempt == number]


class ScriptedDataset:
    """Poses as Ray Data's dataset: writes each table that has rows into a file."""

    def __init__(self, tables):
        self._tables = tables

    def write_parquet(self, path):
        for table in self._tables:
            if table.num_rows:
                storage.write_table(table, storage.join(path, f"{table['id'][0]}.parquet"))


def execute_here(stage, transform, inputs, folder, checkpoint):
    """Does what ``row_stage`` has Ray Data do: rows that were written before are skipped."""
    files = row_stage._parquet_files(folder)
    written = {row_id for file in files for row_id in storage.read_columns(file)["id"].to_pylist()}
    rows = pa.concat_tables([storage.read_columns(file) for file in inputs])
    rows = rows.filter(pa.array([row_id not in written for row_id in rows["id"].to_pylist()], pa.bool_()))
    blocks = (rows.slice(start, BLOCK_ROWS) for start in range(0, rows.num_rows, BLOCK_ROWS))
    transform(blocks).write_parquet(folder)


def run_here(function, *arguments, resources=None):
    return function(*arguments)


@pytest.fixture
def engine(monkeypatch):
    engine = ScriptedEngine()

    @contextmanager
    def untracked_usage(*arguments):
        yield SimpleNamespace(actor=engine.usage, figures=dict)

    monkeypatch.setitem(ADAPTERS, "http", EngineAdapter(engine.transform))
    monkeypatch.setattr(llm_stage, "start_ray", lambda: None)
    monkeypatch.setattr(llm_stage, "tracked_usage", untracked_usage)
    monkeypatch.setattr(outage.ray, "get", Reference.get)
    monkeypatch.setattr(row_stage, "_execute", execute_here)
    for module in (llm_stage, row_stage):
        monkeypatch.setattr(module, "run_remote", run_here)
    return engine


@pytest.fixture
def run(engine, tmp_path):
    """Runs the stage as a new process would, into a new folder, and returns its rows by id and its figures."""
    source = str(tmp_path / "input.parquet")
    storage.write_table(pa.table({"id": IDS, "text": ["text"] * len(IDS)}), source)
    runs = []

    def run(max_reject_fraction=0.5, **llm):
        llm = {"engine": "http", "model": "m", "url": "http://server", "retries": 2, **llm}
        config = Config.model_validate({"llm": llm, "run": {"max_reject_fraction": max_reject_fraction}})
        uri = str(tmp_path / "stage" / str(len(runs)))
        runs.append(uri)
        engine.start_run()
        figures = run_llm_job(LlmJob("word", WordTask, config.annotate), config, [source], uri)
        files = [storage.join(uri, name) for name in storage.list_files(uri)]
        return storage.read_table(files, SCHEMA).to_pylist(), figures

    return run


def test_every_row_is_asked_once(engine, run):
    rows, figures = run()
    assert [row["id"] for row in rows] == IDS
    assert engine.requests == [(0, row_id) for row_id in IDS]
    assert (figures["rows"], figures["calls"], figures["input_tokens"]) == (10, 10, 20)


def test_invalid_answers_are_repeated_as_often_as_configured(engine, run):
    engine.script = {IDS[1]: [INVALID, INVALID, VALID], IDS[2]: [INVALID]}
    rows, figures = run()
    assert [engine.requests_of(number) for number in (1, 2, 3)] == [[IDS[1], IDS[2]], [IDS[1], IDS[2]], []]
    assert [row["id"] for row in rows if row["reject_reason"]] == [IDS[2]]
    assert figures["calls"] == 14


def test_an_isolated_failed_request_is_repeated_in_the_same_run(engine, run):
    engine.script = {IDS[1]: [TRANSPORT, VALID]}
    rows, figures = run(retries=0)
    assert engine.requests_of(1) == [IDS[1]]
    assert figures["rejects"] == {}
    assert [row["id"] for row in rows] == IDS


@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_failed_requests_are_never_lost_and_the_next_run_asks_for_them_alone(engine, run, fraction):
    engine.script = {IDS[1]: [TRANSPORT], IDS[2]: [INVALID]}
    with pytest.raises(JobFailed, match=r"^word: 1 rows have no answer, .*1 × transport: HTTP 503"):
        run(max_reject_fraction=fraction)
    engine.script = {IDS[1]: [VALID], IDS[2]: [VALID]}
    rows, figures = run(max_reject_fraction=fraction)
    assert engine.requests == [(3, IDS[1])]
    assert [row["id"] for row in rows if row["reject_reason"]] == [IDS[2]]  # its three answers were invalid
    assert (figures["rows"], len(rows)) == (9, 10)


def test_runs_during_an_outage_continue_to_count_attempts(engine, run):
    engine.script = {IDS[1]: [TRANSPORT]}
    for first in (0, 3, 6):
        with pytest.raises(JobFailed, match="1 rows have no answer"):
            run()
        assert {number for number, _ in engine.requests} == {first, first + 1, first + 2}
    engine.script = {IDS[1]: [INVALID, VALID]}
    run()
    assert engine.requests == [(9, IDS[1]), (10, IDS[1])]


def test_after_an_outage_the_next_run_asks_for_the_rows_without_an_answer(engine, run):
    engine.script = {IDS[7]: [None, VALID]}
    with pytest.raises(EngineUnavailable, match="the key is refused"):
        run()
    assert engine.requests_of(0) == IDS[:8]
    rows, figures = run()
    assert engine.requests == [(0, row_id) for row_id in IDS[7:]]
    assert [row["id"] for row in rows] == IDS
    assert (figures["rows"], figures["calls"], figures["rejects"]) == (10, 10, {})


def test_an_outage_from_the_first_request_on_leaves_everything_to_the_next_run(engine, run):
    engine.script = {IDS[0]: [None, VALID]}
    with pytest.raises(EngineUnavailable):
        run()
    assert run()[1]["calls"] == 10


def test_rows_that_were_too_long_are_asked_again_by_the_next_run(engine, run):
    engine.script = {row_id: [LONG] for row_id in IDS[:6]}
    with pytest.raises(JobFailed, match=r"6 of 10 rows were rejected, more than run\.max_reject_fraction"):
        run()
    assert engine.requests == [(0, row_id) for row_id in IDS]
    engine.script = {IDS[0]: [LONG]}
    _, figures = run()
    assert engine.requests == [(1, row_id) for row_id in IDS[:6]]
    assert figures["rejects"] == {TOO_LONG: 1}


def test_an_interrupted_attempt_is_continued(engine, run):
    engine.script = {row_id: [INVALID, VALID] for row_id in IDS}
    engine.script[IDS[4]] = [INVALID, None, VALID]
    with pytest.raises(EngineUnavailable):
        run()
    run()
    assert engine.requests == [(1, row_id) for row_id in IDS[4:]]


@pytest.mark.parametrize(("name", "error"), [("vllm", EngineUnavailable), ("http", RayActorError)])
def test_a_dead_engine_in_the_cluster_is_one_line(engine, run, monkeypatch, name, error):
    monkeypatch.setitem(ADAPTERS, name, EngineAdapter(engine.transform))
    engine.script = {IDS[0]: [RayActorError()]}
    with pytest.raises(error):
        run(engine=name)
