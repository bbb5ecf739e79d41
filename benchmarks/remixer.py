"""Measures what the platform adds to the cost of an engine alone, in one command:

    python benchmarks/remixer.py [PART ...] [--model FOLDER_OR_ID] [--prompts 2000] [--device cpu|gpu] [--root FOLDER]

Parts:
    vllm        rows per second of the annotation stage with one vLLM actor under Ray Data, compared with
                ``vllm.LLM.generate`` alone with the same prompts, engine arguments and sampling; start-up is excluded
    prefix      the same stage with pairs grouped by query and in shuffled order, which shows the gain of prefix caching
    extractive  all of ``pydocs``, 500 queries x 50 candidates, without a language model: rows per second, and the
                fraction of the time that is not spent in the engine itself

Without ``--model`` a small random model is used, which is large enough that the engine spends most of its time on the
forward passes, as with a real model. Compare ratios rather than absolute numbers: the machine may be shared.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from reasonembed import storage
from reasonembed.cli.jobs import quiet_libraries
from reasonembed.config import Config

REPOSITORY = Path(__file__).parents[1]
WORDS = (
    "river rain lake wave tide brook flood pond song echo drum whisper noise chord hum bell warm fire sun boil".split()
)
CANDIDATES = 50
MODEL_SIZE = (256, 4)  # hidden size and number of layers of the random model
CPU_ENGINE = {
    "dtype": "float32",
    "enforce_eager": True,
    "kv_cache_memory_bytes": 256 << 20,
    "max_num_seqs": 64,
    "block_size": 32,
}


def main() -> None:
    """Runs the parts of the command line and prints their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "parts", nargs="*", default=["vllm", "prefix", "extractive"], help="parts to run; all when left out"
    )
    parser.add_argument("--model", help="folder or hub id; a small random model when left out")
    parser.add_argument("--prompts", type=int, default=2000, help="number of pairs to grade")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="device of vLLM")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of part vllm; the median is reported")
    parser.add_argument("--new-tokens", type=int, default=120, help="annotate.max_new_tokens")
    parser.add_argument("--text-chars", type=int, default=40, help="annotate.max_text_chars")
    parser.add_argument(
        "--expected-grade", action=argparse.BooleanOptionalAction, default=True, help="annotate.expected_grade"
    )
    parser.add_argument("--root", default="runs/bench", help="run.root of part extractive")
    arguments = parser.parse_args()
    quiet_libraries()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="reasonembed-bench-") as folder:
        model = arguments.model or _random_model(Path(folder) / "random-qwen3")
        for part in arguments.parts:
            PARTS[part](arguments, model, console)


# ---- the annotation stage with one vLLM actor


def _config(arguments: argparse.Namespace, model: str, folder: str) -> Config:
    # Each of the four concurrent batches (llm.concurrent_batches) has as many rows as vLLM can process at a time, and a
    # block has twice the rows of the four batches.
    batch_size = CPU_ENGINE["max_num_seqs"] if arguments.device == "cpu" else 512
    return Config.model_validate(
        {
            "run": {"root": folder, "rows_per_block": 8 * batch_size},
            "cluster": {"profile": "laptop" if arguments.device == "cpu" else "single-gpu"},
            "llm": {
                "engine": "vllm",
                "model": model,
                "max_model_len": 2048,
                "retries": 0,
                "engine_kwargs": CPU_ENGINE if arguments.device == "cpu" else {},
            },
            "annotate": {
                "max_new_tokens": arguments.new_tokens,
                "max_text_chars": arguments.text_chars,
                "expected_grade": arguments.expected_grade,
            },
        }
    )


def _pairs(prompts: int) -> tuple[pa.Table, dict[str, Any], dict[str, str]]:
    """Returns the candidates grouped by query, the queries by id, and the documents' texts by id."""
    rng = random.Random(0)
    text = lambda words: " ".join(rng.choices(WORDS, k=words))  # noqa: E731
    documents = {f"d{n}": text(120) for n in range(400)}
    queries = {
        f"q{n}": {"query": text(90), "task": "t", "source_doc_id": "none"} for n in range(-(-prompts // CANDIDATES))
    }
    rows = [
        {"pair_id": f"{query}/{doc}", "query_id": query, "doc_id": doc}
        for query in queries
        for doc in rng.sample(sorted(documents), CANDIDATES)
    ]
    return pa.Table.from_pylist(rows[:prompts]), queries, documents


def _task(queries: dict[str, Any], documents: dict[str, str]) -> Any:
    """Returns the annotation task over these queries and documents."""
    import numpy as np

    from reasonembed.remixer.annotate import AnnotateTask
    from reasonembed.retrieval.collection import Collection

    collection = Collection(list(documents), list(documents.values()), np.zeros((len(documents), 0), np.float32))
    return AnnotateTask(lambda: queries, lambda: {"t": collection}, {})


def _run_stage(arguments: argparse.Namespace, model: str, pairs: pa.Table, task: Callable[[], Any]) -> dict[str, Any]:
    """Runs the annotation stage and returns its figures."""
    from reasonembed.distributed.llm.llm_stage import run_llm_job
    from reasonembed.llm.job import LlmJob

    with tempfile.TemporaryDirectory(prefix="reasonembed-bench-") as folder:
        config = _config(arguments, model, folder)
        path = f"{folder}/pairs.parquet"
        storage.write_table(pairs, path)
        config = config.model_copy(update={"run": config.run.model_copy(update={"max_reject_fraction": 1.0})})
        job = LlmJob("annotate", task, config.annotate, grades=config.annotate.expected_grade)
        return run_llm_job(job, config, [path], f"{folder}/out")


def _run_bare_in_process(arguments: argparse.Namespace, model: str) -> dict[str, Any]:
    """Runs part ``bare`` in a new process, which frees all memory at its end, and returns its figures."""
    command = [sys.executable, __file__, "bare", "--model", model]
    for name in ("prompts", "device", "new_tokens", "text_chars"):
        command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    command.append("--expected-grade" if arguments.expected_grade else "--no-expected-grade")
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        sys.exit(process.stderr)
    figures: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return figures


def _bare(arguments: argparse.Namespace, model: str, console: Console) -> None:
    """Runs ``vllm.LLM.generate`` in this process, prints its figures as JSON, and ends the process."""
    os.environ |= {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_LOGGING_LEVEL": "ERROR"}
    from vllm import LLM, SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    from reasonembed.distributed.llm.attempt import Attempt
    from reasonembed.distributed.llm.vllm_engine import engine_arguments, sampling_parameters
    from reasonembed.llm.neutralisation import special_tokens_of
    from reasonembed.llm.task_rows import TaskRows

    pairs, queries, documents = _pairs(arguments.prompts)
    task = partial(_task, queries, documents)
    config = _config(arguments, model, "unused")
    special_tokens = partial(special_tokens_of, model) if Path(model).is_dir() else None
    rows = TaskRows(task, "bench", special_tokens)
    attempt = Attempt(
        rows,
        config.llm,
        config.annotate,
        config.run,
        config.cluster.llm,
        grades=config.annotate.expected_grade,
    )
    engine = LLM(model, **engine_arguments(attempt))
    arguments_of_request = sampling_parameters(attempt)
    arguments_of_request["structured_outputs"] = StructuredOutputsParams(**arguments_of_request["structured_outputs"])
    parameters = SamplingParams(**arguments_of_request)
    tokenizer = engine.get_tokenizer()
    prompts = [
        tokenizer.apply_chat_template(rows.messages(rows.request(row)), tokenize=False, add_generation_prompt=True)
        for row in pairs.to_pylist()
    ]
    engine.generate(prompts[-64:], parameters, use_tqdm=False)  # warm-up
    engine.reset_prefix_cache()
    started = time.perf_counter()
    outputs = engine.generate(prompts, parameters, use_tqdm=False)
    seconds = time.perf_counter() - started
    tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
    print(json.dumps({"rows_per_second": len(outputs) / seconds, "output_tokens": tokens}), flush=True)  # noqa: T201
    os._exit(0)  # vLLM 0.32 on a CPU may hang while it shuts down


def _platform(arguments: argparse.Namespace, model: str, console: Console) -> None:
    """Runs only the platform's half of part ``vllm``, for example under a profiler."""
    pairs, queries, documents = _pairs(arguments.prompts)
    console.print(_run_stage(arguments, model, pairs, partial(_task, queries, documents)))


def _vllm(arguments: argparse.Namespace, model: str, console: Console) -> None:
    """Compares the throughput of the stage with that of vLLM alone."""
    pairs, queries, documents = _pairs(arguments.prompts)
    task = partial(_task, queries, documents)
    table = Table(title=f"{arguments.prompts} pairs, one vLLM engine, {arguments.device}, rows/s")
    for name in ("round", "vLLM alone", "platform", "ratio"):
        table.add_column(name, justify="right")
    ratios = []
    for number in range(arguments.rounds):
        bare = _run_bare_in_process(arguments, model)["rows_per_second"]
        ours = _run_stage(arguments, model, pairs, task)["rows_per_second"]
        ratios.append(ours / bare)
        table.add_row(str(number + 1), f"{bare:.1f}", f"{ours:.1f}", f"{ratios[-1]:.2f}")
    console.print(table)
    console.print(f"median ratio {statistics.median(ratios):.2f} (target: at least 0.85)")


def _prefix(arguments: argparse.Namespace, model: str, console: Console) -> None:
    """Compares the throughput of pairs grouped by query with that of shuffled pairs."""
    pairs, queries, documents = _pairs(arguments.prompts)
    order = list(range(pairs.num_rows))
    random.Random(1).shuffle(order)
    table = Table(title=f"{arguments.prompts} pairs, prefix caching on")
    for name in ("order", "rows/s", "prefix-cache hit rate"):
        table.add_column(name, justify="right")
    rates = {}
    for name, rows in (("grouped by query", pairs), ("shuffled", pairs.take(order))):
        figures = _run_stage(arguments, model, rows, partial(_task, queries, documents))
        rates[name] = figures["rows_per_second"]
        hits = figures.get("prefix_cache_hit_rate")
        table.add_row(name, f"{rates[name]:.1f}", "-" if hits is None else f"{hits:.3f}")
    console.print(table)
    console.print(f"grouped / shuffled {rates['grouped by query'] / rates['shuffled']:.2f}")


# ---- the engine without a language model


def _extractive(arguments: argparse.Namespace, model: str, console: Console) -> None:
    """Measures the annotation stage with the engine ``extractive``."""
    from reasonembed.distributed.ray_backend import RayBackend
    from reasonembed.pipeline.pipeline import Pipeline

    settings = {
        "run": {"root": arguments.root},
        "corpus": {"source": "pydocs"},
        "generate": {"max_queries": 500, "min_chars": 80},
        "mine": {"keep": CANDIDATES},
        "encode": {"max_tokens": 256},
    }
    config = Config.model_validate(settings)
    pipeline = Pipeline(config, RayBackend(config), announce=console.print)
    artifact = pipeline.run("annotate")
    figures, actors = artifact.figures, pipeline.config.run.actors
    seconds_per_row = figures["engine_seconds"] / figures["calls"]
    overhead = 1 - seconds_per_row * figures["rows_per_second"] / actors
    overhead_with_start = 1 - figures["engine_seconds"] / actors / artifact.seconds
    console.print(
        f"pydocs, {figures['calls']} pairs, {actors} actors: {figures['rows_per_second']:.0f} rows/s; "
        f"time outside the engine: {overhead:.0%} without start-up, {overhead_with_start:.0%} of the whole stage "
        f"({artifact.seconds:.1f} s)"
    )


def _random_model(folder: Path) -> str:
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from factories import write_llm

    return str(write_llm(folder, *MODEL_SIZE))


PARTS = {
    "vllm": _vllm,
    "prefix": _prefix,
    "extractive": _extractive,
    # The two halves of part vllm.
    "bare": _bare,
    "platform": _platform,
}

if __name__ == "__main__":
    if (
        "bare" not in sys.argv
        and subprocess.run(["git", "-C", str(REPOSITORY), "diff", "--quiet"], check=False).returncode
    ):
        Console(stderr=True).print(
            "the working tree has uncommitted changes; record only results of a commit", style="yellow"
        )
    main()
