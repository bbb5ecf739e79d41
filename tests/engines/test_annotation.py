"""An annotation by vLLM that loses its driver, and a machine with the engine on it, on a cluster whose machines come
with the work and go with it: Ray's autoscaler over its fake multi-node provider, whose machines are Ray nodes with
labels of their own.

The model is random, so what it says means nothing; that it is asked about every pair, once, is what is tested.
"""

import collections
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import ray
from clusters import head
from parts import SHORT, write_bright, write_config
from processes import wait_for
from ray.job_submission import JobStatus, JobSubmissionClient

from reasonembed import artifacts, schemas
from reasonembed.config import Llm, load_config
from reasonembed.pipeline.pipeline import Pipeline

QUERIES, DEPTH, BLOCK = 24, 50, 128
PAIRS = QUERIES * DEPTH
POOL = "gpu-spot"
# The GPUs are numbers to Ray's scheduler; what runs is vLLM's build for CPUs.
KINDS = {
    "cpu": {"resources": {"CPU": 2}, "labels": {"ray-subcluster": "cpu"}, "max_workers": 1},
    POOL: {"resources": {"CPU": 3, "GPU": 1}, "labels": {"ray-subcluster": POOL}, "max_workers": 2},
}
ENGINE = {
    "dtype": "float32",
    "enforce_eager": True,
    "kv_cache_memory_bytes": 64 << 20,
    "max_num_seqs": 32,
    "block_size": 32,
}


class Prepared(Pipeline):
    """Its queries are made without a language model, and go by the name that the configured one would give them: an
    engine takes half a minute to start, and the annotation is what is looked at."""

    def _ask(self, *arguments, **more):
        extractive = self.config.model_copy(update={"llm": Llm(engine="extractive")})
        return Pipeline(extractive)._ask(*arguments, **more)


@pytest.fixture(scope="module")
def elastic():
    # What a driver asked for that was killed, machines included, Ray Data would keep for three minutes.
    with head(kinds=KINDS, RAY_DATA_AUTOSCALING_REQUEST_EXPIRE_TIME_S="40") as started:
        yield started


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, tiny_model, tiny_llm):
    """A config and the root of its run, in which only the annotation is left to do."""
    folder = tmp_path_factory.mktemp("annotation")
    root = folder / "runs"
    config = write_config(
        folder / "config.yaml",
        str(root),
        write_bright(folder / "bright_tiny", documents_per_topic=40),
        tiny_model,
        cluster={"data": {"pool": "cpu"}, "encode": {"pool": "cpu"}, "llm": {"gpus": 1, "pool": POOL}},
        run={"rows_per_block": BLOCK, "max_reject_fraction": 0.2},
        llm={
            "engine": "vllm",
            "model": str(tiny_llm),
            "actors": [1, 2],
            "engine_kwargs": ENGINE,
            "max_model_len": 2048,
        },
        generate={"max_queries": QUERIES, **SHORT},
        mine={"keep": DEPTH},
        annotate=SHORT,
    )
    Prepared(load_config(config, ["cluster.data={}", "cluster.encode={}"]), announce=lambda text: None).mine()
    ray.shutdown()
    return config, root


@dataclass
class Job:
    """The annotation as it was sent to the cluster."""

    name: str
    client: JobSubmissionClient

    @classmethod
    def submit(cls, config, cluster, folder, repository):
        submitted = subprocess.run(
            [sys.executable, str(repository / "jobs/submit.py"), "annotate", str(config), "--address", cluster.address],
            cwd=folder,
            env={**os.environ, **cluster.env},
            capture_output=True,
            text=True,
            check=True,
        )
        return cls(submitted.stdout.strip(), JobSubmissionClient(cluster.address, headers=cluster.headers))

    @property
    def status(self):
        return self.client.get_job_status(self.name)

    @property
    def log(self):
        return self.client.get_job_logs(self.name)

    def until(self, condition, cluster):
        """Wait for what comes to pass while it runs."""

        def there():
            assert self.status in {JobStatus.PENDING, JobStatus.RUNNING}, self.log
            return condition()

        wait_for(there, cluster.process)


@dataclass(frozen=True)
class Survived:
    annotations: artifacts.Artifact
    committed: int
    asked_again: int
    log: str


@pytest.fixture(scope="module")
def survived(prepared, elastic, tmp_path_factory, repository):
    """The driver is killed at a quarter; in the next job, at half, a machine is lost whose engine is at work."""
    config, root = prepared
    folder = tmp_path_factory.mktemp("elsewhere")
    assert not elastic.machines("cpu") | elastic.machines(POOL)

    first = Job.submit(config, elastic, folder, repository)
    first.until(lambda: written(root) >= PAIRS // 4, elastic)
    processes(lambda command: command[1:2] == ["jobs/annotate.py"])[0].kill()
    wait_for(lambda: first.status == JobStatus.FAILED, elastic.process, 60)
    wait_for(lambda: not processes(lambda command: command[0].startswith("VLLM::")), elastic.process, 30)
    committed = written(root)
    # What the engines were still at when they died is not in their logs: no more than they take in at a time.
    told = answered(elastic.session.parent)
    assert told, "the engines' logs were not found"
    asked_again = told - committed + 2 * ENGINE["max_num_seqs"]

    second = Job.submit(config, elastic, folder, repository)
    second.until(lambda: written(root) >= PAIRS // 2 and len(elastic.machines(POOL)) == 2, elastic)
    raylet = processes(lambda command: re.match("ray::MapWorker.*vLLMEngine", command[0]))[0].parent()
    [lost] = [machine for machine in elastic.machines(POOL) if machine in " ".join(raylet.cmdline())]
    raylet.kill()
    assert written(root) < PAIRS
    wait_for(lambda: second.status == JobStatus.SUCCEEDED, elastic.process)
    assert lost not in elastic.machines(POOL)
    (annotations,) = artifacts.finished(str(root), "annotate")
    # Where the machine of a driver is a process with a folder of its own, its log is not where the dashboard looks.
    log = next(elastic.session.parent.glob(f"cpu-*/session_2*/logs/job-driver-{second.name}.log"))
    return Survived(annotations, committed, asked_again, log.read_text())


def processes(wanted):
    """Those whose command line is wanted."""
    return [one for one in psutil.process_iter(["cmdline"]) if (line := one.info["cmdline"]) and wanted(line)]


def written(root):
    """Rows in the finished files of the annotation so far."""
    rows = 0
    for path in root.glob("annotate/*/.work/rows-0/*.parquet"):
        try:
            rows += pq.ParquetFile(path).metadata.num_rows
        except (OSError, ValueError):  # being written
            continue
    return rows


def answered(folder):
    """Rows that the engines of all machines have answered, by their own logs."""
    sizes = re.compile(r"\[vLLM\] Elapsed time for batch \w+ with size (\d+)")
    logs = Path(folder).glob("*/session_2*/logs/worker-*.err")
    return sum(int(size) for log in logs for size in sizes.findall(log.read_text("utf-8")))


def test_no_pair_is_missing_none_is_there_twice_and_hardly_any_was_paid_twice(survived, capsys):
    pairs = survived.annotations.table(schemas.ANNOTATIONS)["pair_id"].to_pylist()
    candidates = survived.annotations.find_input("candidates")
    assert pairs == candidates.table(schemas.CANDIDATES)["pair_id"].to_pylist()
    assert set(collections.Counter(pairs).values()) == {1}
    assert len(pairs) == PAIRS
    with capsys.disabled():
        print(  # noqa: T201
            f"\ndriver killed with {survived.committed} of {PAIRS} pairs written; asked again: at most "
            f"{survived.asked_again}, allowed: {2 * BLOCK} (a block per actor)"
        )
    assert survived.asked_again <= 2 * BLOCK


def test_the_record_says_what_was_paid(survived):
    figures = survived.annotations.figures
    assert figures["calls"] >= PAIRS
    assert figures["rows"] + sum(figures["rejects"].values()) == PAIRS
    assert figures["input_tokens"] > PAIRS * 400
    assert PAIRS * 10 < figures["output_tokens"] < PAIRS * 170
    assert 0.5 < figures["prefix_cache_hit_rate"] <= 1
    assert figures["rows_per_second"] > 0
    assert sum(figures["grades"].values()) == figures["rows"]
    assert "tokens in" in survived.log


def test_grades_are_expected_ones(survived):
    for uri in survived.annotations.parquet():
        assert pq.read_schema(uri).equals(schemas.ANNOTATIONS), uri
    graded = survived.annotations.table(schemas.ANNOTATIONS).to_pylist()
    accepted = [row for row in graded if row["reject_reason"] is None]
    assert {row["grade"] for row in accepted} == {1, 2, 3, 4, 5}
    assert all(0 <= row["score"] <= 1 and row["rationale"] is not None for row in accepted)
    assert len({row["score"] for row in accepted}) > 100, "expected grades, not five steps"


def test_machines_go_when_the_work_is_done(survived, elastic):
    wait_for(lambda: not elastic.machines(POOL), elastic.process, 90)
