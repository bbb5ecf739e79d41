"""Ray Train around the loop of ``redapter``: workers, checkpoints in storage, resume, the exported model."""

import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import ray
import ray.train
import ray.train.torch

from reasonembed import storage
from reasonembed.artifacts import SCRATCH, Artifact
from reasonembed.config import Encode, Resources, Train
from reasonembed.distributed.cluster import start_ray
from reasonembed.distributed.data.training_batches import DEV_FILE, PARTS, STEPS_FILE, StreamedBatches
from reasonembed.distributed.progress import show_training
from reasonembed.errors import JobFailed, UserError
from reasonembed.redapter.model_card import CARD, MEASURE, Origin, model_card

MODEL, INTENSITY, HISTORY, NONFINITE = "model", "intensity.parquet", "history.json", "nonfinite.json"
# A lost node, or a spot GPU taken back, is one; checkpoints keep what was done.
MAX_FAILURES = 10
INTENSITY_SCHEMA = pa.schema([("step", pa.int32()), ("query_id", pa.string()), ("intensity", pa.float32())])


@dataclass(frozen=True)
class TrainJob:
    """What every worker needs; travels pickled."""

    batches: StreamedBatches
    settings: Train
    encode: Encode
    seed: int
    origin: Origin
    uri: str
    place: Resources


def batches_of(artifact: Artifact) -> StreamedBatches:
    return StreamedBatches(artifact.parquet(PARTS), artifact.path(STEPS_FILE), artifact.path(DEV_FILE))


def run_training(job: TrainJob) -> dict[str, Any]:
    """Train and leave the model, the history and the reasoning intensities below ``job.uri``.

    A run that was interrupted goes on from its last checkpoint, which Ray Train finds there itself.

    Raises:
        JobFailed: the loss is not a finite number; the queries are written down.
        UserError: the checkpoint cannot be taken up by so many workers.
    """
    start_ray()
    fs, path = storage.open_filesystem(storage.join(job.uri, SCRATCH))
    fs.create_dir(path, recursive=True)
    # In the main thread Ray Train would take over Ctrl-C for good, and end an unfinished job with exit code 0.
    pool = ThreadPoolExecutor(1)
    try:
        with show_training("train", len(job.batches.steps)) as progress:
            result = pool.submit(_trainer(job, progress, fs, path).fit).result()
            if failure := ray.get(progress.failure.remote()):
                raise _recorded(failure, job.uri)
    finally:
        pool.shutdown(wait=False)
    assert result.checkpoint is not None
    return _publish(result, job)


def _trainer(job: TrainJob, progress: Any, fs: pafs.FileSystem, path: str) -> ray.train.torch.TorchTrainer:
    settings, place = job.settings, job.place
    workers = settings.workers if settings.min_workers is None else (settings.min_workers, settings.workers)
    return ray.train.torch.TorchTrainer(
        _worker,
        train_loop_config={"job": job, "progress": progress},
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers,
            use_gpu=place.gpus > 0,
            resources_per_worker=place.bundle,
            label_selector=place.labels or None,
        ),
        torch_config=ray.train.torch.TorchConfig(backend="nccl" if place.gpus else "gloo"),
        run_config=ray.train.RunConfig(
            name="train",
            storage_path=path,
            storage_filesystem=fs,
            checkpoint_config=ray.train.CheckpointConfig(
                num_to_keep=2, checkpoint_score_attribute=MEASURE if settings.dev_queries else None
            ),
            failure_config=ray.train.FailureConfig(max_failures=MAX_FAILURES),
        ),
    )


def _recorded(failure: Exception, uri: str) -> Exception:
    """The failure as the job ends with it; queries without a finite loss are left beside the checkpoints."""
    query_ids = getattr(failure, "query_ids", None)
    if query_ids is None:
        return failure
    place = storage.join(uri, SCRATCH, NONFINITE)
    storage.write_bytes(place, json.dumps({"step": failure.step, "query_ids": query_ids}, indent=1).encode())  # type: ignore[attr-defined]
    return JobFailed(f"{failure}; all of them are in {place}")


def _publish(result: Any, job: TrainJob) -> dict[str, Any]:
    """Copy what stays out of the last checkpoint, and the model out of the best."""
    with result.checkpoint.as_directory() as folder:
        state = json.loads((Path(folder) / HISTORY).read_text())
    chosen, best = result.checkpoint, {}
    if job.settings.dev_queries:
        chosen, metrics = max(result.best_checkpoints, key=lambda entry: (entry[1][MEASURE], entry[1]["step"]))
        best = {"best_step": metrics["step"], f"best_{MEASURE}": round(metrics[MEASURE], 6)}
    with chosen.as_directory() as folder:
        storage.upload_tree(Path(folder) / MODEL, storage.join(job.uri, MODEL))
    table = pa.Table.from_pylist(
        [{"step": step, "query_id": query, "intensity": value} for step, query, value in state.pop("intensity")],
        schema=INTENSITY_SCHEMA,
    )
    storage.write_table(table, storage.join(job.uri, INTENSITY))
    storage.write_bytes(storage.join(job.uri, HISTORY), json.dumps(state["history"], indent=1).encode())
    figures: dict[str, Any] = {"rows": len(table), "steps": len(state["history"])}
    figures |= {key: round(value, 6) for key, value in state["history"][-1].items()}
    return figures | best


def _worker(config: dict[str, Any]) -> None:
    from reasonembed.redapter.gather import rank

    try:
        _train(config["job"], config["progress"])
    except (JobFailed, UserError) as error:
        # All ranks meet it alike, and a second try would too: the driver is told, instead of Ray Train trying again.
        if rank() == 0:
            ray.get(config["progress"].fail.remote(error))


def _train(job: TrainJob, progress: Any) -> None:
    import torch

    from reasonembed.distributed.train.tensorboard import TensorBoardLog
    from reasonembed.embedder.model import Embedder
    from reasonembed.redapter import loop
    from reasonembed.redapter.engines import TrainingEngine
    from reasonembed.redapter.gather import rank

    settings = job.settings
    model = Embedder.load(
        settings.base_model,
        job.encode,
        device=str(ray.train.torch.get_device()),
        dtype=torch.bfloat16 if settings.dtype == "bfloat16" else torch.float32,
    )
    board: TensorBoardLog | None = None

    def on_step(done: int, figures: dict[str, float]) -> None:
        nonlocal board
        if rank() == 0:
            board = board or TensorBoardLog(job.uri, done - 1)
            board.add(done, figures)
            progress.report.remote(done, figures["loss"])

    def on_checkpoint(engine: TrainingEngine, state: loop.State) -> None:
        done = state.step == len(job.batches.steps)
        with tempfile.TemporaryDirectory(prefix="reasonembed-") as name:
            folder = Path(name)
            loop.save(engine, state, folder, settings)
            if state.is_best if settings.dev_queries else done:
                export_model(engine, folder / MODEL, job, state)
            if rank() == 0:
                if board is not None:
                    board.publish()
                if done:
                    kept = {"history": state.history, "intensity": state.intensity}
                    (folder / HISTORY).write_text(json.dumps(kept))
            metrics = {"step": state.step, **state.history[-1]}
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))

    arguments = (model, job.batches, settings, job.encode, job.seed)
    found = ray.train.get_checkpoint()
    if found is None:
        loop.train(*arguments, None, on_step, on_checkpoint)
    else:
        with found.as_directory() as folder:
            loop.train(*arguments, Path(folder), on_step, on_checkpoint)


def export_model(engine: Any, folder: Path, job: TrainJob, state: Any) -> None:
    """Rank 0 writes the model folder with its card; all ranks must call this, since ZeRO-3 gathers the weights."""
    from reasonembed.redapter.gather import rank

    with engine.whole_weights():
        if rank() == 0:
            model = engine.model
            model.save(folder, job.encode.max_tokens)
            card = model_card(job.origin, model.pooling, model.dimension, state.step, state.history[-1])
            (folder / CARD).write_text(card, encoding="utf-8")
