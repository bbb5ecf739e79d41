"""Compares the losses: base model, InfoNCE, RI-InfoNCE and RI-InfoNCE with each optional term, over several seeds.

    python benchmarks/losses.py pydocs [--seeds 42 43 44]
    python benchmarks/losses.py beir:FOLDER bright:FOLDER --pool 2000

ReMixer (``extractive``) makes the training rows from all sources; each seed samples other source documents and batches.
The training loop runs in this process. Each training is measured on the sources' test questions, with the checkpoint
that ranks held-out training rows best. With ``--pool`` only that many documents of each source are searched, the judged
ones included, by the base model and by the trained models. Results are stored in ``--root``; a finished training does
not run again.

The table shows nDCG@10 by seed, and the difference from the base model with its 95 % interval (values are averaged over
the seeds; questions are resampled within their task).
"""

import argparse
import copy
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table

from reasonembed import schemas
from reasonembed.cli.jobs import quiet_libraries
from reasonembed.config import Config, load_config
from reasonembed.corpora.bright import ORIGINAL
from reasonembed.distributed.ray_backend import RayBackend
from reasonembed.embedder.prompts import query_text
from reasonembed.evaluation.metrics import AVERAGE, RANKED, differences, means, per_question
from reasonembed.evaluation.ranking import rank_questions
from reasonembed.pipeline.corpus_stages import QUESTIONS
from reasonembed.pipeline.pipeline import Pipeline
from reasonembed.pipeline.training_stages import training_rows
from reasonembed.remixer.assemble import usable_rows
from reasonembed.retrieval.collection import Collection
from reasonembed.retrieval.exact import ExactScorer

CONFIG = Path(__file__).parents[1] / "jobs" / "configs" / "quickstart.yaml"
NEVER = 1_000_000  # a step that no training reaches
VARIANTS: dict[str, dict[str, Any]] = {
    "InfoNCE": {"ri_start_step": NEVER},
    "RI-InfoNCE": {},
    "+ multi-positive": {"multi_positive_weight": 0.5},
    "+ soft targets": {"soft_target_weight": 1.0},
    "+ distillation of q'": {"rewrite_distillation_weight": 1.0},
    "+ Matryoshka": {"matryoshka_dims": [64, 128]},
}
TRAIN = {
    "workers": 1,
    "engine": "torch",
    "zero_stage": 0,
    "steps": 24,
    "batch_size": 12,
    "group_size": 4,
    "max_tokens": 48,
    "batch_tokens": 512,
    "learning_rate": 5e-5,
    "temperature": 0.05,
    "infonce_weight": 1.0,
    "soft_target_weight": 0.0,
    "dev_queries": 12,
}


def main() -> None:
    """Trains and evaluates every variant with every seed, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", help="sources of documents and questions, as in corpus.source")
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44], help="one training per seed and variant")
    parser.add_argument("--data-seed", type=int, help="one sample of source documents for all seeds, to save time")
    parser.add_argument("--queries", type=int, default=600, help="largest number of generated queries per source")
    parser.add_argument(
        "--tokens", type=int, default=64, help="largest number of tokens of a document or question in the evaluation"
    )
    parser.add_argument("--steps", type=int, default=TRAIN["steps"], help="optimiser steps of each training")
    parser.add_argument("--pool", type=int, help="number of documents per source that are searched; all when left out")
    parser.add_argument("--root", default="runs/losses", help="folder of the results")
    arguments = parser.parse_args()
    quiet_libraries()
    console = Console(stderr=True)
    results: dict[str, list[pa.Table]] = {}
    for seed in arguments.seeds:
        for variant in ("base", *VARIANTS):
            table = _measure(variant, seed, arguments, console)
            results.setdefault(variant, []).append(table)
            console.print(f"{variant}, seed {seed}: {_average(table):.4f}")
    Console(width=110).print(_table(results, arguments))


def _table(results: dict[str, list[pa.Table]], arguments: argparse.Namespace) -> Table:
    table = Table(title=f"{', '.join(s.rsplit('/')[-1] for s in arguments.sources)}: nDCG@10, test questions")
    for name in ("trained with", *(f"seed {seed}" for seed in arguments.seeds), "mean - base", "95 % interval"):
        table.add_column(name, justify="left" if name == "trained with" else "right")
    averages = {variant: _mean_over_seeds(tables) for variant, tables in results.items()}
    for variant, tables in results.items():
        gain = differences(averages[variant], averages["base"], 2000, 10_000, 0)[AVERAGE]
        cells = ("", "") if variant == "base" else (f"{gain.value:+.4f}", f"{gain.low:+.4f} … {gain.high:+.4f}")
        table.add_row(variant, *(f"{_average(values):.4f}" for values in tables), *cells)
    return table


def _average(table: pa.Table) -> float:
    return means(table)[AVERAGE]["ndcg@10"]


def _mean_over_seeds(tables: list[pa.Table]) -> pa.Table:
    """Returns every question's values, averaged over the seeds."""
    names = [name for name in tables[0].column_names if name not in ("task", "query_id", RANKED)]
    columns = {name: np.mean([table[name].to_numpy() for table in tables], axis=0) for name in names}
    return pa.table({"task": tables[0]["task"], "query_id": tables[0]["query_id"], **columns})


def _measure(variant: str, seed: int, arguments: argparse.Namespace, console: Console) -> pa.Table:
    """Returns the values per question of all sources, from the file of an earlier run if it exists."""
    name = "-".join([*(s.rsplit("/")[-1].rsplit(":")[-1] for s in arguments.sources), variant.strip("+ "), str(seed)])
    path = Path(arguments.root) / "measured" / f"{name}.json".replace(" ", "-")
    if path.exists():
        return pa.table(json.loads(path.read_text()))
    pipelines = [_pipeline(_config(s, seed, arguments), console) for s in arguments.sources]
    model = _train(variant, seed, pipelines, arguments.steps)
    table = pa.concat_tables(_measure_source(model, pipeline, arguments.pool) for pipeline in pipelines)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(table.to_pydict()))
    return table


def _pipeline(config: Config, console: Console) -> Pipeline:
    return Pipeline(config, RayBackend(config), announce=console.print)


def _config(source: str, seed: int, arguments: argparse.Namespace) -> Config:
    return load_config(
        CONFIG,
        [
            f"run.root={arguments.root}",
            f"run.seed={seed if arguments.data_seed is None else arguments.data_seed}",
            f"corpus.source={source}",
            f"generate.max_queries={arguments.queries}",
            f"encode.max_tokens={arguments.tokens}",
        ],
    )


def _train(variant: str, seed: int, pipelines: list[Pipeline], steps: int) -> Any:
    """Returns the model that a variant trains on the rows of all pipelines; with ``base`` the model as it is."""
    import torch

    from reasonembed.config import Encode
    from reasonembed.embedder.model import Embedder
    from reasonembed.redapter import training_loop
    from reasonembed.redapter.batch_plan import held_out_ids

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from factories import MemoryBatches

    base = pipelines[0].config.train
    model = Embedder.load(base.base_model)
    if variant == "base":
        return model
    quarter = max(1, steps // 4)
    lengths = {"steps": steps, "checkpoint_steps": quarter, "ri_start_step": quarter}
    settings = base.model_validate(base.model_dump() | TRAIN | lengths | VARIANTS[variant])
    rows = [
        row for p in pipelines for row in usable_rows(p.build(training_rows(p)).table(schemas.TRAINING)).to_pylist()
    ]
    held_out = held_out_ids([(row["task"], row["query_id"]) for row in rows], settings.dev_queries, seed)
    held_out_rows = [row for row in rows if row["query_id"] in held_out]
    remaining_rows = [row for row in rows if row["query_id"] not in held_out]
    batches = MemoryBatches(remaining_rows, settings, seed, held_out_rows)
    best_weights: dict[str, torch.Tensor] = {}

    def copy_best_weights(engine: Any, state: Any) -> None:
        if state.is_best:
            best_weights.update(copy.deepcopy(engine.model.state_dict()))

    training_loop.train(model, batches, settings, Encode(), seed, None, lambda *_: None, copy_best_weights)
    model.load_state_dict(best_weights)
    return model


def _measure_source(model: Any, pipeline: Pipeline, pool: int | None) -> pa.Table:
    """Returns the values per test question of a pipeline's source."""
    config, source = pipeline.config, pipeline.config.corpus.source
    questions = pipeline.run(QUESTIONS, source, "test", None, ORIGINAL).table(schemas.QUESTIONS)
    corpus = pipeline.run("corpus").table(schemas.CORPUS)
    if pool is not None:
        corpus = _sample_corpus(corpus, questions, pool)
    texts = [f"{a} {b}".strip() for a, b in zip(corpus["title"].to_pylist(), corpus["text"].to_pylist(), strict=True)]
    encode = lambda batch: model.encode(batch, config.encode.max_tokens, config.encode.batch_tokens)  # noqa: E731
    vectors = encode(texts)

    def collections() -> Iterator[tuple[str, Collection]]:
        tasks = np.array(corpus["task"].to_pylist())
        for task in sorted(set(tasks)):
            rows = np.flatnonzero(tasks == task)
            yield task, Collection(corpus["doc_id"].take(rows).to_pylist(), [texts[i] for i in rows], vectors[rows])

    ranking = rank_questions(
        questions,
        collections(),
        lambda collection, queries: ExactScorer(collection.vectors, collection.texts)(encode(queries)),
        lambda row: query_text(row["query"], row["instruction"], config.encode.instruct),
    )
    return per_question(questions, ranking)


def _sample_corpus(corpus: pa.Table, questions: pa.Table, size: int) -> pa.Table:
    """Returns the judged documents and a fixed random sample of the others, ``size`` documents in all."""
    judged = pc.is_in(corpus["doc_id"], value_set=pc.list_flatten(questions["gold_ids"])).to_numpy(zero_copy_only=False)
    others = np.random.default_rng(0).permutation(np.flatnonzero(~judged))
    rows = np.concatenate([np.flatnonzero(judged), others[: max(0, size - int(judged.sum()))]])
    return corpus.take(np.sort(rows))


if __name__ == "__main__":
    main()
