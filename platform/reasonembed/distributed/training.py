"""Ray Train around the loop of ``redapter``: workers, checkpoints in storage, resume, the exported model."""

import json
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import ray.train
import ray.train.torch

from reasonembed import schemas, storage
from reasonembed.artifacts import SCRATCH
from reasonembed.config import Encode, Train
from reasonembed.distributed.progress import show_training
from reasonembed.distributed.session import start_ray
from reasonembed.remixer.assemble import usable_rows

MODEL, INTENSITY, HISTORY = "model", "intensity.parquet", "history.json"
INTENSITY_SCHEMA = pa.schema([("step", pa.int32()), ("query_id", pa.string()), ("intensity", pa.float32())])


@dataclass(frozen=True)
class TrainJob:
    """What every worker needs; travels pickled."""

    training_files: Sequence[str]
    settings: Train
    encode: Encode
    seed: int


def run_training(job: TrainJob, uri: str) -> dict[str, Any]:
    """Train and leave the model, the history and the reasoning intensities below ``uri``.

    A run that was interrupted goes on from its last checkpoint, which Ray Train finds below ``uri`` itself.
    """
    start_ray()
    fs, path = storage.open_filesystem(storage.join(uri, SCRATCH))
    fs.create_dir(path, recursive=True)
    # In the main thread Ray Train would take over Ctrl-C for good, and end an unfinished job with exit code 0.
    pool = ThreadPoolExecutor(1)
    try:
        with show_training("train", job.settings.steps) as progress:
            result = pool.submit(_trainer(job, progress, fs, path).fit).result()
    finally:
        pool.shutdown(wait=False)
    assert result.checkpoint is not None
    return _publish(result.checkpoint, uri)


def _trainer(job: TrainJob, progress: Any, fs: pafs.FileSystem, path: str) -> ray.train.torch.TorchTrainer:
    return ray.train.torch.TorchTrainer(
        _worker,
        train_loop_config={"job": job, "progress": progress},
        scaling_config=ray.train.ScalingConfig(num_workers=job.settings.workers, use_gpu=job.settings.use_gpu),
        torch_config=ray.train.torch.TorchConfig(backend="nccl" if job.settings.use_gpu else "gloo"),
        run_config=ray.train.RunConfig(
            name="train",
            storage_path=path,
            storage_filesystem=fs,
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            failure_config=ray.train.FailureConfig(max_failures=2),
        ),
    )


def _publish(checkpoint: Any, uri: str) -> dict[str, Any]:
    with checkpoint.as_directory() as folder:
        state = json.loads((Path(folder) / HISTORY).read_text())
        storage.upload_tree(Path(folder) / MODEL, storage.join(uri, MODEL))
    table = pa.Table.from_pylist(
        [{"step": step, "query_id": query, "intensity": value} for step, query, value in state.pop("intensity")],
        schema=INTENSITY_SCHEMA,
    )
    storage.write_table(table, storage.join(uri, INTENSITY))
    storage.write_bytes(storage.join(uri, HISTORY), json.dumps(state["history"], indent=1).encode())
    last = state["history"][-1]
    return {"rows": len(table), "steps": len(state["history"]), **{key: round(value, 6) for key, value in last.items()}}


def _worker(config: dict[str, Any]) -> None:
    import torch

    from reasonembed.embedder.model import Embedder
    from reasonembed.redapter import loop
    from reasonembed.redapter.engine import export_model
    from reasonembed.redapter.gather import rank

    job: TrainJob = config["job"]
    settings = job.settings
    table = usable_rows(storage.read_table(job.training_files, schemas.TRAINING))
    model = Embedder.load(
        settings.base_model,
        device=str(ray.train.torch.get_device()),
        dtype=torch.bfloat16 if settings.dtype == "bfloat16" else torch.float32,
    )

    def on_step(done: int, figures: dict[str, float]) -> None:
        if rank() == 0:
            config["progress"].report.remote(done, figures["loss"])

    def on_checkpoint(engine: Any, state: loop.State, final: bool = False) -> None:
        with tempfile.TemporaryDirectory(prefix="reasonembed-") as folder:
            loop.save(engine, state, Path(folder))
            if final:
                export_model(engine, Path(folder) / MODEL, settings.max_tokens)
                if rank() == 0:
                    history = {"history": state.history, "intensity": state.intensity}
                    (Path(folder) / HISTORY).write_text(json.dumps(history))
            metrics = {"step": state.step, **(state.history[-1] if state.history else {})}
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))

    found = ray.train.get_checkpoint()
    if found is None:
        engine, state = loop.train(model, table, settings, job.encode, job.seed, None, on_step, on_checkpoint)
    else:
        with found.as_directory() as folder:
            engine, state = loop.train(
                model, table, settings, job.encode, job.seed, Path(folder), on_step, on_checkpoint
            )
    on_checkpoint(engine, state, final=True)
