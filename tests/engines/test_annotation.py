"""An annotation by vLLM on an autoscaling cluster that loses its driver, and then a machine with a running engine.

The cluster is Ray's autoscaler with its fake multi-node provider, whose machines are Ray nodes with their own labels.
The model is random, so its answers have no meaning. The tests check that every pair is annotated, and hardly any twice.
"""

import collections
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import ray
from clusters import running_head
from factories import SHORT_ANSWERS, VLLM_ENGINE, write_bright, write_config
from processes import wait_for
from ray.job_submission import JobStatus, JobSubmissionClient

from reasonembed import artifacts, schemas
from reasonembed.config import Llm, load_config
from reasonembed.distributed.ray_backend import RayBackend
from reasonembed.llm.extractive import load_extractive_engine
from reasonembed.pipeline.pipeline import Pipeline

pytestmark = pytest.mark.extended

QUERIES, DEPTH, BLOCK = 24, 50, 128
PAIRS = QUERIES * DEPTH
POOL = "gpu-spot"
# The GPUs are only numbers for Ray's scheduler; the engine is vLLM's build for CPUs.
NODE_TYPES = {
    "cpu": {"resources": {"CPU": 2}, "labels": {"ray-subcluster": "cpu"}, "max_workers": 1},
    POOL: {"resources": {"CPU": 3, "GPU": 1}, "labels": {"ray-subcluster": POOL}, "max_workers": 2},
}


class ExtractiveBackend(RayBackend):
    """A backend that generates queries without a language model, under the fingerprint of the configured engine.

    This saves half a minute, in which an engine would start.
    """

    def ask_llm(self, job, config, inputs, uri):
        extractive = config.model_copy(update={"llm": Llm(engine="extractive")})
        make_engine = partial(load_extractive_engine, None, 0.5, 5)
        return super().ask_llm(replace(job, make_engine=make_engine), extractive, inputs, uri)


@pytest.fixture(scope="module")
def elastic():
    """A head whose autoscaler starts machines of two pools."""
    # By default Ray Data's resource requests outlive a killed driver by three minutes.
    with running_head(node_types=NODE_TYPES, RAY_DATA_AUTOSCALING_REQUEST_EXPIRE_TIME_S="40") as head:
        yield head


@pytest.fixture(scope="module")
def mined_run(tmp_path_factory, tiny_model, tiny_llm):
    """A config and its ``run.root``, in which all stages before the annotation are finished."""
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
            "engine_kwargs": VLLM_ENGINE,
            "max_model_len": 2048,
        },
        generate={"max_queries": QUERIES, **SHORT_ANSWERS},
        mine={"keep": DEPTH},
        annotate=SHORT_ANSWERS,
    )
    overrides = ["cluster.data={}", "cluster.encode={}"]
    loaded = load_config(config, overrides)
    Pipeline(loaded, ExtractiveBackend(loaded), announce=lambda text: None).run("mine")
    ray.shutdown()
    return config, root


@dataclass
class Job:
    """A submitted annotation."""

    name: str
    client: JobSubmissionClient

    @classmethod
    def submit(cls, config, head, folder, repository):
        """Runs ``jobs/submit.py annotate`` in a folder."""
        done = subprocess.run(
            [sys.executable, str(repository / "jobs/submit.py"), "annotate", str(config), "--address", head.address],
            cwd=folder,
            env={**os.environ, **head.env},
            capture_output=True,
            text=True,
            check=True,
        )
        return cls(done.stdout.strip(), JobSubmissionClient(head.address, headers=head.headers))

    @property
    def status(self):
        return self.client.get_job_status(self.name)

    def wait_for(self, condition, head):
        """Waits until the condition is true; fails the test if the job ends before that."""

        def check():
            assert self.status in {JobStatus.PENDING, JobStatus.RUNNING}, self.client.get_job_logs(self.name)
            return condition()

        wait_for(check, head.process)


@dataclass(frozen=True)
class Recovery:
    """An annotation that was finished in spite of the losses."""

    annotations: artifacts.Artifact
    committed: int
    """Pairs that were written when the driver was killed."""
    repeated: int
    """Pairs that the engines answered and that were not written, so that they are sent again."""
    log: str


@pytest.fixture(scope="module")
def recovery(mined_run, elastic, tmp_path_factory, repository):
    """The driver is killed at a quarter of the pairs; in the next job, at half, a machine whose engine is busy."""
    config, root = mined_run
    folder = tmp_path_factory.mktemp("elsewhere")
    assert not elastic.machines("cpu") | elastic.machines(POOL)

    first = Job.submit(config, elastic, folder, repository)
    first.wait_for(lambda: count_written(root) >= PAIRS // 4, elastic)
    find_processes(lambda command: command[1:2] == ["jobs/annotate.py"])[0].kill()
    wait_for(lambda: first.status == JobStatus.FAILED, elastic.process, 60)
    wait_for(lambda: not find_processes(lambda command: command[0].startswith("VLLM::")), elastic.process, 30)
    committed = count_written(root)
    answered = count_answered(elastic.session.parent)
    assert answered, "the logs of the engines do not exist"
    # The engines may answer further rows of their blocks until the cluster ends them. A batch that is ended halfway is
    # in no log and is not counted.
    repeated = answered - committed

    second = Job.submit(config, elastic, folder, repository)
    second.wait_for(lambda: count_written(root) >= PAIRS // 2 and len(elastic.machines(POOL)) == 2, elastic)
    raylet = find_processes(lambda command: re.match("ray::MapWorker.*vLLMEngine", command[0]))[0].parent()
    [lost] = [machine for machine in elastic.machines(POOL) if machine in " ".join(raylet.cmdline())]
    raylet.kill()
    assert count_written(root) < PAIRS
    wait_for(lambda: second.status == JobStatus.SUCCEEDED, elastic.process)
    assert lost not in elastic.machines(POOL)
    (annotations,) = artifacts.finished(str(root), "annotate")
    # Every fake machine has a session folder of its own, where the dashboard does not find the log of the driver.
    log = next(elastic.session.parent.glob(f"cpu-*/session_2*/logs/job-driver-{second.name}.log"))
    return Recovery(annotations, committed, repeated, log.read_text())


def find_processes(matches):
    """Returns the processes whose command line, as a list, matches."""
    return [
        process for process in psutil.process_iter(["cmdline"]) if (line := process.info["cmdline"]) and matches(line)
    ]


def count_written(root):
    """Returns the number of rows in the complete files of the annotation so far."""
    rows = 0
    for path in root.glob("annotate/*/.work/rows-0/*.parquet"):
        try:
            rows += pq.ParquetFile(path).metadata.num_rows
        except (OSError, ValueError):  # the file is being written
            continue
    return rows


def count_answered(folder):
    """Returns the number of rows that the engines of all machines have answered, from their logs."""
    sizes = re.compile(r"\[vLLM\] Elapsed time for batch \w+ with size (\d+)")
    logs = Path(folder).glob("*/session_2*/logs/worker-*.err")
    return sum(int(size) for log in logs for size in sizes.findall(log.read_text("utf-8")))


def test_every_pair_is_annotated_once_and_hardly_any_is_repeated(recovery, capsys):
    pairs = recovery.annotations.table(schemas.ANNOTATIONS)["pair_id"].to_pylist()
    candidates = recovery.annotations.find_input("candidates")
    assert pairs == candidates.table(schemas.CANDIDATES)["pair_id"].to_pylist()
    assert set(collections.Counter(pairs).values()) == {1}
    assert len(pairs) == PAIRS
    with capsys.disabled():
        print(  # noqa: T201
            f"\ndriver killed with {recovery.committed} of {PAIRS} pairs written; answers lost: "
            f"{recovery.repeated}, allowed: {2 * BLOCK} (a block per actor)"
        )
    assert recovery.repeated <= 2 * BLOCK


def test_the_record_holds_calls_tokens_and_rates(recovery):
    figures = recovery.annotations.figures
    assert figures["calls"] >= PAIRS
    assert figures["rows"] + sum(figures["rejects"].values()) == PAIRS
    assert figures["input_tokens"] > PAIRS * 400
    assert PAIRS * 10 < figures["output_tokens"] < PAIRS * 170
    assert 0.5 < figures["prefix_cache_hit_rate"] <= 1
    assert figures["rows_per_second"] > 0
    assert sum(figures["grades"].values()) == figures["rows"]
    assert "tokens in" in recovery.log


def test_scores_are_expected_grades(recovery):
    for uri in recovery.annotations.parquet():
        assert pq.read_schema(uri).equals(schemas.ANNOTATIONS), uri
    rows = recovery.annotations.table(schemas.ANNOTATIONS).to_pylist()
    accepted = [row for row in rows if row["reject_reason"] is None]
    assert len(accepted) >= 0.8 * PAIRS
    for row in accepted:
        assert row["grade"] in {1, 2, 3, 4, 5}
        assert row["rationale"] is not None
        assert 0 <= row["score"] <= 1
        # The sampled grade has a probability above 0, so the expected grade is an extreme only if the grade is it.
        assert row["score"] > 0 or row["grade"] == 1, row
        assert row["score"] < 1 or row["grade"] == 5, row
    assert len({row["score"] for row in accepted}) > 100, "scores are expected grades, not the five grades"


def test_idle_machines_are_ended(recovery, elastic):
    wait_for(lambda: not elastic.machines(POOL), elastic.process, 90)
