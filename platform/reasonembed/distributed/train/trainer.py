"""The stage ``train`` on Ray Train: workers, checkpoints in storage, resume, the exported model."""

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
from reasonembed.artifacts import Artifact, scratch_uri
from reasonembed.config import Encode, Resources, Train
from reasonembed.distributed.cluster import start_ray
from reasonembed.distributed.data.training_batches import HELD_OUT_FILE, PART_PREFIX, STEPS_FILE, StreamedBatches
from reasonembed.distributed.train.checkpoint_selection import check_run_folder, newest_whole_checkpoint
from reasonembed.distributed.train.training_progress import training_progress
from reasonembed.errors import JobFailed, UserError
from reasonembed.redapter.checkpoint_manifest import find_damage, write_manifest
from reasonembed.redapter.model_card import HELD_OUT_METRIC, MODEL_CARD_FILE, Origin, model_card
from reasonembed.redapter.training_outputs import HISTORY, INTENSITY, INTENSITY_SCHEMA, MODEL, TENSORBOARD

NONFINITE = "nonfinite.json"
RUN_NAME = "train"
"""Ray Train's name of the run, and of its folder in the scratch folder."""
# A lost node, or a spot GPU that was reclaimed, counts as one failure; training resumes from the last checkpoint.
MAX_FAILURES = 10


@dataclass(frozen=True)
class TrainJob:
    """Everything that a worker needs; Ray sends it pickled.

    Args:
        batches: the planned steps and their rows.
        settings: of training.
        encode: form of the queries, pooling, and length of texts.
        seed: of dropout.
        origin: for the model card.
        uri: of the artifact.
        resources: of one worker.
    """

    batches: StreamedBatches
    settings: Train
    encode: Encode
    seed: int
    origin: Origin
    uri: str
    resources: Resources


def batches_of(artifact: Artifact) -> StreamedBatches:
    """Returns the batches in an artifact of the stage ``batches``."""
    return StreamedBatches(artifact.parquet(PART_PREFIX), artifact.path(STEPS_FILE), artifact.path(HELD_OUT_FILE))


def run_training(job: TrainJob) -> dict[str, Any]:
    """Trains, and writes the model, the history and the reasoning intensities below ``job.uri``.

    An interrupted training resumes from its last checkpoint, which Ray Train finds in the scratch folder, or from an
    earlier one if that is damaged.

    Returns:
        The figures of the stage: rows, steps, the last step's figures, and the best checkpoint where there is one.

    Raises:
        JobFailed: the loss, the gradient or a weight is not a finite number; a file lists the queries.
        UserError: the checkpoint was written by another number of workers, or all checkpoints are damaged.
    """
    check_run_folder(scratch_uri(job.uri, RUN_NAME))
    start_ray()
    filesystem, path = storage.open_filesystem(scratch_uri(job.uri))
    filesystem.create_dir(path, recursive=True)
    # In the main thread Ray Train would replace the handler of Ctrl-C for good, and an unfinished job would end with
    # exit code 0.
    executor = ThreadPoolExecutor(1)
    try:
        with training_progress("train", len(job.batches.steps)) as progress:
            result = executor.submit(_trainer(job, progress, filesystem, path).fit).result()
            if failure := ray.get(progress.failure.remote()):
                raise _job_error(failure, job.uri)
    finally:
        executor.shutdown(wait=False)
    assert result.checkpoint is not None
    return _publish(result, job)


def _trainer(job: TrainJob, progress: Any, filesystem: pafs.FileSystem, path: str) -> ray.train.torch.TorchTrainer:
    settings, resources = job.settings, job.resources
    workers = settings.workers if settings.min_workers is None else (settings.min_workers, settings.workers)
    return ray.train.torch.TorchTrainer(
        _run_worker,
        train_loop_config={"job": job, "progress": progress},
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers,
            use_gpu=resources.gpus > 0,
            resources_per_worker=resources.bundle,
            label_selector=resources.labels or None,
        ),
        torch_config=ray.train.torch.TorchConfig(backend="nccl" if resources.gpus else "gloo"),
        run_config=ray.train.RunConfig(
            name=RUN_NAME,
            storage_path=path,
            storage_filesystem=filesystem,
            checkpoint_config=ray.train.CheckpointConfig(
                num_to_keep=2, checkpoint_score_attribute=HELD_OUT_METRIC if settings.dev_queries else None
            ),
            failure_config=ray.train.FailureConfig(max_failures=MAX_FAILURES),
        ),
    )


def _job_error(failure: Exception, uri: str) -> Exception:
    """Returns the error with which the job ends; the queries of a step that is not finite are listed in a file."""
    query_ids = getattr(failure, "query_ids", None)
    if query_ids is None:
        return failure
    path = scratch_uri(uri, NONFINITE)
    storage.write_bytes(path, json.dumps({"step": failure.step, "query_ids": query_ids}, indent=1).encode())  # type: ignore[attr-defined]
    return JobFailed(f"{failure}; all these queries are in {path}")


def _publish(result: Any, job: TrainJob) -> dict[str, Any]:
    """Copies the history from the last checkpoint and the model from the best one into the artifact."""
    with result.checkpoint.as_directory() as folder:
        _check_files(result, result.checkpoint, folder, HISTORY, job)
        record = json.loads((Path(folder) / HISTORY).read_text())
    checkpoint, best = result.checkpoint, {}
    if job.settings.dev_queries:
        # A step that was repeated because its checkpoint was damaged has two; the path contains the time.
        newest = {entry[1]["step"]: entry for entry in sorted(result.best_checkpoints, key=lambda entry: entry[0].path)}
        checkpoint, metrics = max(newest.values(), key=lambda entry: (entry[1][HELD_OUT_METRIC], entry[1]["step"]))
        best = {"best_step": metrics["step"], f"best_{HELD_OUT_METRIC}": round(metrics[HELD_OUT_METRIC], 6)}
    with checkpoint.as_directory() as folder:
        _check_files(result, checkpoint, folder, f"{MODEL}/", job)
        storage.upload_tree(Path(folder) / MODEL, storage.join(job.uri, MODEL))
    storage.copy_tree(scratch_uri(job.uri, TENSORBOARD), storage.join(job.uri, TENSORBOARD))
    intensities = [
        {"step": step, "query_id": query_id, "intensity": value} for step, query_id, value in record["intensity"]
    ]
    storage.write_table(pa.Table.from_pylist(intensities, schema=INTENSITY_SCHEMA), storage.join(job.uri, INTENSITY))
    history = record["history"]
    storage.write_bytes(storage.join(job.uri, HISTORY), json.dumps(history, indent=1).encode())
    figures: dict[str, Any] = {"rows": len(intensities), "steps": len(history)}
    figures |= {key: round(value, 6) for key, value in history[-1].items()}
    return figures | best


def _check_files(result: Any, checkpoint: Any, folder: str, prefix: str, job: TrainJob) -> None:
    """Raises an error if files of a checkpoint whose names begin with ``prefix`` are damaged."""
    if damage := find_damage(Path(folder), include=lambda name: name.startswith(prefix)):
        # Only the last checkpoint is written again by a training that resumes before it.
        if checkpoint.path == result.checkpoint.path:
            raise JobFailed(f"checkpoint {checkpoint.path} is damaged ({damage}); the same command repeats its steps")
        raise UserError(
            f"the best checkpoint, {checkpoint.path}, is damaged ({damage}); remove the folder "
            f"{scratch_uri(job.uri, RUN_NAME)} to train from the start"
        )


def _run_worker(config: dict[str, Any]) -> None:
    from reasonembed.redapter.gather import rank

    try:
        _train(config["job"], config["progress"])
    except (JobFailed, UserError) as error:
        # All ranks get the same error, and another attempt would too. The error is reported to the driver and not
        # raised, because Ray Train would start the workers again.
        if rank() == 0:
            ray.get(config["progress"].fail.remote(error))


def _train(job: TrainJob, progress: Any) -> None:
    import torch

    from reasonembed.distributed.train.tensorboard import TensorBoardLog
    from reasonembed.embedder.model import Embedder
    from reasonembed.redapter import training_loop
    from reasonembed.redapter.engines import TrainingEngine
    from reasonembed.redapter.gather import rank

    settings = job.settings
    model = Embedder.load(
        settings.base_model,
        job.encode,
        device=str(ray.train.torch.get_device()),
        dtype=torch.bfloat16 if settings.dtype == "bfloat16" else torch.float32,
    )
    tensorboard: TensorBoardLog | None = None

    def on_step(done: int, figures: dict[str, float]) -> None:
        nonlocal tensorboard
        if rank() == 0:
            tensorboard = tensorboard or TensorBoardLog(scratch_uri(job.uri, TENSORBOARD), done - 1)
            tensorboard.add(done, figures)
            progress.report.remote(done, figures["loss"])

    def on_checkpoint(engine: TrainingEngine, state: training_loop.TrainingState) -> None:
        finished = state.step == len(job.batches.steps)
        with tempfile.TemporaryDirectory(prefix="reasonembed-") as name:
            folder = Path(name)
            training_loop.save_checkpoint(engine, state, folder, settings)
            if state.is_best if settings.dev_queries else finished:
                export_model(engine, folder / MODEL, job, state)
            if rank() == 0:
                if tensorboard is not None:
                    tensorboard.publish()
                if finished:
                    record = {"history": state.history, "intensity": state.intensity}
                    (folder / HISTORY).write_text(json.dumps(record))
            write_manifest(folder)
            metrics = {"step": state.step, **state.history[-1]}
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))

    arguments = (model, job.batches, settings, job.encode, job.seed)
    run_folder, device = scratch_uri(job.uri, RUN_NAME), ray.train.torch.get_device()
    with newest_whole_checkpoint(progress, run_folder, device) as resume_from:
        training_loop.train(*arguments, resume_from, on_step, on_checkpoint)


def export_model(engine: Any, folder: Path, job: TrainJob, state: Any) -> None:
    """Writes the model folder with its card on rank 0; all ranks must call this, because ZeRO-3 gathers the weights.

    Args:
        engine: a ``TrainingEngine``.
        folder: where to write.
        job: the training.
        state: a ``TrainingState``.

    Raises:
        NonFiniteWeights: a weight is not a finite number; raised on all ranks.
    """
    from reasonembed.redapter.gather import any_rank, rank
    from reasonembed.redapter.nonfinite import NonFiniteWeights

    model, failed = engine.model, False
    with engine.gathered_weights():
        if rank() == 0:
            # The checkpoint has finite weights; those of merged adapters may still be infinite.
            try:
                model.save(folder, job.encode.max_tokens)
                card = model_card(job.origin, model.pooling, model.dimension, state.step, state.history[-1])
                (folder / MODEL_CARD_FILE).write_text(card, encoding="utf-8")
            except JobFailed:
                failed = True
    if any_rank(failed, next(model.parameters()).device):
        raise NonFiniteWeights(state.step)
