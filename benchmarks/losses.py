"""What each loss is worth: base model, InfoNCE, RI-InfoNCE and RI-InfoNCE with each optional term, over several seeds.

    python benchmarks/losses.py pydocs [--seeds 42 43 44]
    python benchmarks/losses.py beir:FOLDER bright:FOLDER --pool 2000

The training rows are ReMixer's (``extractive``), made of all the named sources; a seed draws other source documents and
batches. The loop runs in this process. Of a training the checkpoint stays that ranks held-out training rows best; it is
measured on the sources' test questions. With ``--pool`` a source's documents are thinned to so many, judged ones among
them, for base and trained alike. Finished trainings are kept in ``--root`` and not run again.

The table: nDCG@10 by seed, and the difference to the base model with its 95 % interval (questions are resampled within
their task, their values averaged over the seeds).
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
from reasonembed.embedder.prompts import query_text
from reasonembed.evaluation.metrics import AVERAGE, RANKED, differences, means, per_question
from reasonembed.evaluation.ranking import rank_questions
from reasonembed.pipeline.pipeline import Pipeline
from reasonembed.remixer.assemble import usable_rows
from reasonembed.retrieval.collection import Collection
from reasonembed.retrieval.exact import ExactScores

CONFIG = Path(__file__).parents[1] / "jobs" / "configs" / "quickstart.yaml"
NEVER = 1_000_000
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", help="as corpus.source")
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    parser.add_argument("--data-seed", type=int, help="one draw of source documents for all seeds, to save time")
    parser.add_argument("--queries", type=int, default=600, help="per source")
    parser.add_argument("--tokens", type=int, default=64, help="of a document, when it is searched")
    parser.add_argument("--steps", type=int, default=TRAIN["steps"], help="of a training")
    parser.add_argument("--pool", type=int, help="documents of a source that are searched")
    parser.add_argument("--root", default="runs/losses")
    arguments = parser.parse_args()
    quiet_libraries()
    console = Console(stderr=True)
    measured: dict[str, list[pa.Table]] = {}
    for seed in arguments.seeds:
        for variant in ("base", *VARIANTS):
            table = _measured(variant, seed, arguments, console)
            measured.setdefault(variant, []).append(table)
            console.print(f"{variant}, seed {seed}: {_average(table):.4f}")
    Console(width=110).print(_table(measured, arguments))


def _table(measured: dict[str, list[pa.Table]], arguments: argparse.Namespace) -> Table:
    table = Table(title=f"{', '.join(s.rsplit('/')[-1] for s in arguments.sources)}: nDCG@10, test questions")
    for name in ("trained with", *(f"seed {seed}" for seed in arguments.seeds), "mean - base", "95 % interval"):
        table.add_column(name, justify="left" if name == "trained with" else "right")
    averaged = {variant: _over_seeds(tables) for variant, tables in measured.items()}
    for variant, tables in measured.items():
        gain = differences(averaged[variant], averaged["base"], 2000, 10_000, 0)[AVERAGE]
        shown = ("", "") if variant == "base" else (f"{gain.value:+.4f}", f"{gain.low:+.4f} … {gain.high:+.4f}")
        table.add_row(variant, *(f"{_average(one):.4f}" for one in tables), *shown)
    return table


def _average(table: pa.Table) -> float:
    return means(table)[AVERAGE]["ndcg@10"]


def _over_seeds(tables: list[pa.Table]) -> pa.Table:
    """Every question's values, averaged over the seeds."""
    names = [name for name in tables[0].column_names if name not in ("task", "query_id", RANKED)]
    columns = {name: np.mean([table[name].to_numpy() for table in tables], axis=0) for name in names}
    return pa.table({"task": tables[0]["task"], "query_id": tables[0]["query_id"], **columns})


def _measured(variant: str, seed: int, arguments: argparse.Namespace, console: Console) -> pa.Table:
    """Values per question of all sources; out of the file of an earlier run where there is one."""
    name = "-".join([*(s.rsplit("/")[-1].rsplit(":")[-1] for s in arguments.sources), variant.strip("+ "), str(seed)])
    kept = Path(arguments.root) / "measured" / f"{name}.json".replace(" ", "-")
    if kept.exists():
        return pa.table(json.loads(kept.read_text()))
    pipelines = [Pipeline(_config(s, seed, arguments), announce=console.print) for s in arguments.sources]
    model = _trained(variant, seed, pipelines, arguments.steps)
    table = pa.concat_tables(_on_source(model, pipeline, arguments.pool) for pipeline in pipelines)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(table.to_pydict()))
    return table


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


def _trained(variant: str, seed: int, pipelines: list[Pipeline], steps: int) -> Any:
    import torch

    from reasonembed.config import Encode
    from reasonembed.embedder.model import Embedder
    from reasonembed.redapter import loop
    from reasonembed.redapter.batch_plan import hold_out

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from parts import MemoryBatches

    base = pipelines[0].config.train
    model = Embedder.load(base.base_model)
    if variant == "base":
        return model
    quarter = max(1, steps // 4)
    sized = {"steps": steps, "checkpoint_steps": quarter, "ri_start_step": quarter}
    settings = base.model_validate(base.model_dump() | TRAIN | sized | VARIANTS[variant])
    rows = [row for p in pipelines for row in usable_rows(p.training_data().table(schemas.TRAINING)).to_pylist()]
    dev = hold_out([(row["task"], row["query_id"]) for row in rows], settings.dev_queries, seed)
    held = [row for row in rows if row["query_id"] in dev]
    batches = MemoryBatches([row for row in rows if row["query_id"] not in dev], settings, seed, held)
    best: dict[str, torch.Tensor] = {}

    def keep(engine: Any, state: Any) -> None:
        if state.is_best:
            best.update(copy.deepcopy(engine.model.state_dict()))

    loop.train(model, batches, settings, Encode(), seed, None, lambda *_: None, keep)
    model.load_state_dict(best)
    return model


def _on_source(model: Any, pipeline: Pipeline, pool: int | None) -> pa.Table:
    config, source = pipeline.config, pipeline.config.corpus.source
    questions = pipeline.questions(source, "test").table(schemas.QUESTIONS)
    corpus = pipeline.corpus().table(schemas.CORPUS)
    if pool is not None:
        corpus = _thinned(corpus, questions, pool)
    texts = [f"{a} {b}".strip() for a, b in zip(corpus["title"].to_pylist(), corpus["text"].to_pylist(), strict=True)]
    encode = lambda of: model.encode(of, config.encode.max_tokens, config.encode.batch_tokens)  # noqa: E731
    vectors = encode(texts)

    def collections() -> Iterator[tuple[str, Collection]]:
        tasks = np.array(corpus["task"].to_pylist())
        for task in sorted(set(tasks)):
            here = np.flatnonzero(tasks == task)
            yield task, Collection(corpus["doc_id"].take(here).to_pylist(), [texts[i] for i in here], vectors[here])

    ranking = rank_questions(
        questions,
        collections(),
        lambda collection, queries: ExactScores(collection.vectors, collection.texts)(encode(queries)),
        lambda row: query_text(row["query"], row["instruction"], config.encode.instruct),
    )
    return per_question(questions, ranking)


def _thinned(corpus: pa.Table, questions: pa.Table, size: int) -> pa.Table:
    """The judged documents, and others drawn at random (always the same) until there are so many."""
    judged = pc.is_in(corpus["doc_id"], value_set=pc.list_flatten(questions["gold_ids"])).to_numpy(zero_copy_only=False)
    others = np.random.default_rng(0).permutation(np.flatnonzero(~judged))
    chosen = np.concatenate([np.flatnonzero(judged), others[: max(0, size - int(judged.sum()))]])
    return corpus.take(np.sort(chosen))


if __name__ == "__main__":
    main()
