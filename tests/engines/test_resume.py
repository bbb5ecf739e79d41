"""A training that is interrupted, loses its driver, and then a worker, ends with the numbers of one that was not.

``make test-all`` runs one case; ``make test-resume`` runs all ZeRO stages with both kinds of storage.
"""

import json
import os
import signal
import warnings
from contextlib import suppress

import boto3
import psutil
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import yaml
from factories import training_rows, write_lines
from processes import free_port, interrupt, start_job, wait_for
from pyarrow.fs import FileSelector

from reasonembed import artifacts, storage
from reasonembed.redapter.training_outputs import INTENSITY, INTENSITY_SCHEMA

pytestmark = pytest.mark.extended

STEPS = 32
ALL_CASES = [(stage, kind) for stage in (1, 2, 3) for kind in ("disk", "s3")]
CASES = ALL_CASES if os.environ.get("RESUME") == "all" else [(3, "s3")]
ZERO_STAGES = sorted({stage for stage, _ in CASES})


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


def start_training(path, root, train):
    path.write_text(yaml.safe_dump({"run": {"root": root, "rows_per_block": 16}, "train": train}))
    return start_job("train", path)


def last_checkpoint(root):
    """Returns the step of the newest checkpoint in Ray Train's list, or 0 if there is none."""
    fs, path = storage.open_filesystem(root)
    files = fs.get_file_info(FileSelector(path, recursive=True, allow_not_found=True))
    snapshots = [file.path for file in files if file.path.endswith("/train/checkpoint_manager_snapshot.json")]
    if not snapshots:
        return 0
    with fs.open_input_stream(snapshots[0]) as stream:
        text = stream.read()
    try:
        snapshot = json.loads(text)
    except ValueError:  # Ray Train is writing the file
        return 0
    return max((result["metrics"]["step"] for result in snapshot.get("checkpoint_results", [])), default=0)


def interrupt_job(process):
    """Interrupts the job and asserts that it leaves no process behind."""
    descendants = psutil.Process(process.pid).children(recursive=True)
    interrupt(process)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 130, log
    assert "the same command continues from here" in log
    _, alive = psutil.wait_procs(descendants, timeout=60)
    assert not alive


def kill_driver(process):
    """Kills the driver, and then its descendants, which a cluster would end when it notices the loss."""
    descendants = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for descendant in descendants:
        with suppress(psutil.NoSuchProcess):
            descendant.kill()
    psutil.wait_procs(descendants, timeout=60)


def kill_worker(process):
    """Kills one of the two workers of Ray Train."""
    descendants = psutil.Process(process.pid).children(recursive=True)
    workers = [descendant for descendant in descendants if "RayTrainWorker" in " ".join(descendant.cmdline())]
    assert len(workers) == 2, [worker.cmdline() for worker in workers]
    workers[0].kill()


def read_result(process):
    """Waits for the job; returns its artifact, the history, the intensities and the log."""
    out, log = process.communicate(timeout=300)
    assert process.returncode == 0, log
    artifact = artifacts.load(json.loads(out.splitlines()[-1])["artifact"])
    intensity = storage.read_table([artifact.path(INTENSITY)], INTENSITY_SCHEMA)
    return artifact, json.loads(storage.read_bytes(artifact.path("history.json"))), intensity, log


def _train_uninterrupted(rank, port, data, model, folder):
    from factories import MemoryBatches

    from reasonembed.config import Encode, Train
    from reasonembed.embedder.model import Embedder
    from reasonembed.redapter import training_loop
    from reasonembed.redapter.batch_plan import held_out_ids
    from reasonembed.remixer.assemble import usable_rows
    from reasonembed.remixer.interchange import read_published

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)  # as in Ray's workers
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    rows = usable_rows(read_published(str(data))).to_pylist()
    ids = held_out_ids([(row["task"], row["query_id"]) for row in rows], 4, 42)
    used = [row for row in rows if row["query_id"] not in ids]
    held_out = [row for row in rows if row["query_id"] in ids]
    for stage in ZERO_STAGES:
        train = Train(**settings(data, model, stage))
        batches = MemoryBatches(used, train, 42, held_out)
        arguments = (train, Encode(), 42, None, lambda *_: None, lambda *_: None)
        _, state = training_loop.train(Embedder.load(str(model)), batches, *arguments)
        if rank == 0:
            (folder / f"{stage}.json").write_text(json.dumps([state.history, state.intensity]))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def uninterrupted(data, tiny_model, tmp_path_factory):
    """History and intensities of the training loop on two ranks without Ray, by ZeRO stage."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    mp.spawn(_train_uninterrupted, args=(free_port(), data, tiny_model, folder), nprocs=2)
    return {stage: json.loads((folder / f"{stage}.json").read_text()) for stage in ZERO_STAGES}


@pytest.mark.parametrize(("stage", "storage_kind"), CASES)
def test_losing_the_driver_and_a_worker_changes_no_number(
    stage, storage_kind, uninterrupted, data, tiny_model, tmp_path, request
):
    root = f"{request.getfixturevalue('bucket')}/{stage}" if storage_kind == "s3" else str(tmp_path / "runs")
    path, train = tmp_path / "config.yaml", settings(data, tiny_model, stage)

    step = 0
    for end in (interrupt_job, kill_driver, kill_worker):
        process = start_training(path, root, train)
        target = step + 2
        wait_for(lambda target=target: last_checkpoint(root) >= target, process, 300)
        end(process)
        step = max(step, last_checkpoint(root))  # the workers may have continued until they were ended
    assert step < STEPS
    artifact, history, intensity, log = read_result(process)

    assert "resumed at" in " ".join(log.split())
    card = storage.read_bytes(f"{artifact.uri}/model/README.md").decode()
    assert f"weights of step {artifact.figures['best_step']}\n" in card
    expected_history, expected_intensity = uninterrupted[stage]
    assert history == expected_history
    assert intensity.select(["step", "query_id"]).to_pylist() == [
        {"step": step, "query_id": query_id} for step, query_id, _ in expected_intensity
    ]
    assert intensity["intensity"].to_pylist() == pytest.approx([value for *_, value in expected_intensity], rel=1e-6)


def test_a_damaged_checkpoint_changes_no_number(uninterrupted, data, tiny_model, tmp_path):
    stage, root, path = ZERO_STAGES[0], tmp_path / "runs", tmp_path / "config.yaml"
    train = settings(data, tiny_model, stage)
    process = start_training(path, str(root), train)
    wait_for(lambda: last_checkpoint(str(root)) >= 4, process, 300)
    kill_driver(process)
    [snapshot] = root.glob("train/*/.work/train/checkpoint_manager_snapshot.json")
    name = json.loads(snapshot.read_text())["latest_checkpoint_result"]["checkpoint_dir_name"]
    largest = max((snapshot.parent / name / "state").iterdir(), key=lambda file: file.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)

    _, history, _, log = read_result(start_training(path, str(root), train))
    text = " ".join(log.split())
    assert f"checkpoint {name} of step" in text
    assert f"is damaged (state/{largest.name} has" in text
    assert "resumed at" in text
    assert history == uninterrupted[stage][0]


def test_a_loss_that_is_not_finite_ends_the_job_and_records_the_queries(data, tiny_model, tmp_path):
    train = settings(data, tiny_model, 1) | {"workers": 1, "learning_rate": 1e30}
    process = start_training(tmp_path / "config.yaml", str(tmp_path / "runs"), train)
    _, log = process.communicate(timeout=300)
    assert process.returncode == 1, log
    assert "queries is not a finite number" in log.splitlines()[-1]
    [path] = (tmp_path / "runs").glob("train/*/.work/nonfinite.json")
    assert str(path) in log.splitlines()[-1]
    record = json.loads(path.read_text())
    assert record["step"] >= 1
    assert record["query_ids"]
