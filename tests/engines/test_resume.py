"""Training that was stopped, lost its driver, and then a worker, ends with the numbers of one that lost nothing.

`make test` runs one case; `make test-resume` all ZeRO stages from both kinds of storage.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import warnings

import boto3
import psutil
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import yaml
from parts import training_rows, write_lines

from reasonembed import artifacts, storage
from reasonembed.distributed.train.trainer import INTENSITY, INTENSITY_SCHEMA

STEPS = 32
EVERY = os.environ.get("RESUME") == "all"
CASES = [(stage, place) for stage in (1, 2, 3) for place in ("local", "s3")] if EVERY else [(3, "s3")]
STAGES = sorted({stage for stage, _ in CASES})


@pytest.fixture(scope="module")
def bucket(s3_server):
    boto3.client("s3").create_bucket(Bucket="training")
    return "s3://training"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for task in ("water", "sound"):
        write_lines(folder / f"{task}.jsonl", training_rows(24, task))
    return folder


def settings(data, model, stage):
    return {
        "base_model": str(model),
        "data": str(data),
        "workers": 2,
        "zero_stage": stage,
        "steps": STEPS,
        "batch_size": 6,
        "group_size": 4,
        "max_tokens": 32,
        "learning_rate": 1e-3,
        "temperature": 0.1,
        "ri_start_step": 3,
        "checkpoint_steps": 2,
        "dev_queries": 4,
    }


def start(path, root, train, *overrides):
    path.write_text(yaml.safe_dump({"run": {"root": root, "rows_per_block": 16}, "train": train}))
    return subprocess.Popen(
        [sys.executable, "jobs/train.py", str(path), *overrides],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def listed(root):
    """Steps of the checkpoints that Ray Train has listed, below the one `train` artefact in progress."""
    fs, path = storage.open_filesystem(root)
    from pyarrow.fs import FileSelector

    files = fs.get_file_info(FileSelector(path, recursive=True, allow_not_found=True))
    snapshots = [f.path for f in files if f.path.endswith("/train/checkpoint_manager_snapshot.json")]
    if not snapshots:
        return []
    with fs.open_input_stream(snapshots[0]) as stream:
        text = stream.read()
    try:
        found = json.loads(text)
    except ValueError:  # written anew while it was read
        return []
    return [result["metrics"]["step"] for result in found.get("checkpoint_results", [])]


def wait_until(root, process, enough):
    """Until a checkpoint of at least so many steps is listed; returns its step."""
    end = time.time() + 300
    while time.time() < end:
        assert process.poll() is None, process.communicate()[1]
        if (steps := listed(root)) and max(steps) >= enough:
            return max(steps)
        time.sleep(0.1)
    pytest.fail("no checkpoint in five minutes")


def interrupt(process):
    """To the whole group, as a terminal does for Ctrl-C; nothing of it may be left behind."""
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 130, log
    assert "the same command goes on from here" in log
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive


def kill_driver(process):
    """Nothing of it may tidy up; then what it leaves behind, which a cluster would notice and end."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for one in family:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=60)


def kill_a_worker(process):
    workers = [
        one
        for one in psutil.Process(process.pid).children(recursive=True)
        if "RayTrainWorker" in " ".join(one.cmdline())
    ]
    assert len(workers) == 2, [one.cmdline() for one in workers]
    workers[0].kill()


def finished(process):
    out, log = process.communicate(timeout=300)
    assert process.returncode == 0, log
    artifact = artifacts.load(json.loads(out.splitlines()[-1])["artifact"])
    intensity = storage.read_table([artifact.path(INTENSITY)], INTENSITY_SCHEMA)
    return artifact, json.loads(storage.read_bytes(artifact.path("history.json"))), intensity, log


def _uninterrupted(rank, port, data, model, folder):
    from parts import MemoryBatches

    from reasonembed.config import Encode, Train
    from reasonembed.embedder.model import Embedder
    from reasonembed.redapter import loop
    from reasonembed.redapter.batch_plan import hold_out
    from reasonembed.remixer.assemble import usable_rows
    from reasonembed.remixer.interchange import read_published

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)  # as Ray's workers have it
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    rows = usable_rows(read_published(str(data))).to_pylist()
    dev = hold_out([(row["task"], row["query_id"]) for row in rows], 4, 42)
    for stage in STAGES:
        train = Train(**settings(data, model, stage))
        batches = MemoryBatches(
            [row for row in rows if row["query_id"] not in dev], train, 42, [r for r in rows if r["query_id"] in dev]
        )
        arguments = (train, Encode(), 42, None, lambda *_: None, lambda *_: None)
        _, state = loop.train(Embedder.load(str(model)), batches, *arguments)
        if rank == 0:
            (folder / f"{stage}.json").write_text(json.dumps([state.history, state.intensity]))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def uninterrupted(data, tiny_model, tmp_path_factory):
    """By ZeRO stage: history and intensities of the loop on two ranks, without Ray."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_uninterrupted, args=(port, data, tiny_model, folder), nprocs=2)
    return {stage: json.loads((folder / f"{stage}.json").read_text()) for stage in STAGES}


@pytest.mark.parametrize(("stage", "place"), CASES)
def test_a_lost_driver_and_a_lost_worker_change_nothing(
    stage, place, uninterrupted, data, tiny_model, tmp_path, request
):
    root = f"{request.getfixturevalue('bucket')}/{stage}" if place == "s3" else str(tmp_path / "runs")
    path, train = tmp_path / "config.yaml", settings(data, tiny_model, stage)

    reached = 0
    for end in (interrupt, kill_driver, kill_a_worker):
        process = start(path, root, train)
        wait_until(root, process, reached + 2)
        end(process)
        reached = max(listed(root), default=reached)  # its workers may have reached more than was seen before
    assert reached < STEPS
    artifact, history, intensity, log = finished(process)

    assert "resumed at" in " ".join(log.split())
    card = storage.read_bytes(f"{artifact.uri}/model/README.md").decode()
    assert f"weights of step {artifact.figures['best_step']}\n" in card
    expected_history, expected_intensity = uninterrupted[stage]
    assert history == expected_history
    assert intensity.select(["step", "query_id"]).to_pylist() == [
        {"step": step, "query_id": query_id} for step, query_id, _ in expected_intensity
    ]
    assert intensity["intensity"].to_pylist() == pytest.approx([value for *_, value in expected_intensity], rel=1e-6)


def test_a_loss_that_is_no_number_ends_the_job_and_leaves_the_queries(data, tiny_model, tmp_path):
    process = start(
        tmp_path / "config.yaml",
        str(tmp_path / "runs"),
        settings(data, tiny_model, 1) | {"workers": 1},
        "train.learning_rate=1e30",
    )
    _, log = process.communicate(timeout=300)
    assert process.returncode == 1, log
    assert "queries is not a finite number" in log.splitlines()[-1]
    [place] = (tmp_path / "runs").glob("train/*/.work/nonfinite.json")
    assert str(place) in log.splitlines()[-1]
    left = json.loads(place.read_text())
    assert left["step"] >= 1
    assert left["query_ids"]
