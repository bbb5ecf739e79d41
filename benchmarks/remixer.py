"""What the platform costs beside what it runs, one command:

    python benchmarks/remixer.py [part ...] [--model FOLDER_OR_ID] [--prompts 2000] [--device cpu|gpu] [--root FOLDER]

Parts:
    vllm        rows a second of the annotation stage, one vLLM actor under Ray Data, against bare ``vllm.LLM.generate``
                with the same prompts, engine arguments and sampling; start-up of both left out
    prefix      the same stage with its pairs grouped by query and in shuffled order: what the shared prefixes are worth
    extractive  all of ``pydocs``, 500 queries x 50 candidates, without a language model: rows a second, and the share
                of the time that goes into anything but the engine's own work

Without ``--model`` a random model is made, small and yet large enough that computing with it is most of the engine's
work, as it is with a real one. Ratios are what counts: the machine may be shared.
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
MODEL_SIZE = (256, 4)  # hidden size, layers
CPU_ENGINE = {
    "dtype": "float32",
    "enforce_eager": True,
    "kv_cache_memory_bytes": 256 << 20,
    "max_num_seqs": 64,
    "block_size": 32,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["vllm", "prefix", "extractive"])
    parser.add_argument("--model", help="folder or hub id; a small random model when left out")
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--rounds", type=int, default=3, help="of the comparison with bare vLLM; medians are reported")
    parser.add_argument("--new-tokens", type=int, default=120)
    parser.add_argument("--text-chars", type=int, default=40, help="of each text in an answer")
    parser.add_argument("--expected-grade", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--root", default="runs/bench")
    arguments = parser.parse_args()
    quiet_libraries()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="reasonembed-bench-") as folder:
        model = arguments.model or _random_model(Path(folder) / "random-qwen3")
        for part in arguments.parts:
            PARTS[part](arguments, model, console)


# ---- the annotation stage over one vLLM actor


def _config(arguments: argparse.Namespace, model: str, folder: str) -> Config:
    # Four batches at a time, each of which fills vLLM, and blocks of twice that.
    at_a_time = CPU_ENGINE["max_num_seqs"] if arguments.device == "cpu" else 512
    return Config.model_validate(
        {
            "run": {"root": folder, "rows_per_block": 8 * at_a_time},
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
    """Candidates grouped by query, the queries, and the documents' texts."""
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
    import numpy as np

    from reasonembed.remixer.annotate import AnnotateTask
    from reasonembed.retrieval.collection import Collection

    collection = Collection(list(documents), list(documents.values()), np.zeros((len(documents), 0), np.float32))
    return AnnotateTask(lambda: queries, lambda: {"t": collection}, {})


def _platform(arguments: argparse.Namespace, model: str, pairs: pa.Table, task: Callable[[], Any]) -> dict[str, Any]:
    from reasonembed.distributed.llm.llm_stage import LlmStage, run_llm_stage
    from reasonembed.llm.task_rows import TaskRows

    with tempfile.TemporaryDirectory(prefix="reasonembed-bench-") as folder:
        config = _config(arguments, model, folder)
        path = f"{folder}/pairs.parquet"
        storage.write_table(pairs, path)
        config = config.model_copy(update={"run": config.run.model_copy(update={"max_reject_fraction": 1.0})})
        stage = LlmStage("annotate", TaskRows(task, "bench"), config.annotate, grades=config.annotate.expected_grade)
        return run_llm_stage(stage, config, [path], f"{folder}/out")


def _bare(arguments: argparse.Namespace, model: str) -> dict[str, Any]:
    """In a process of its own, which leaves nothing behind."""
    command = [sys.executable, __file__, "bare", "--model", model]
    for name in ("prompts", "device", "new_tokens", "text_chars"):
        command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    command.append("--expected-grade" if arguments.expected_grade else "--no-expected-grade")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _bare_here(arguments: argparse.Namespace, model: str, console: Console) -> None:
    os.environ |= {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_LOGGING_LEVEL": "ERROR"}
    from vllm import LLM, SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    from reasonembed.distributed.llm.attempt import LIKELIEST, Asking
    from reasonembed.distributed.llm.vllm_engine import engine_arguments
    from reasonembed.llm.task_rows import TaskRows
    from reasonembed.remixer.prompting import messages

    pairs, queries, documents = _pairs(arguments.prompts)
    task = partial(_task, queries, documents)
    config = _config(arguments, model, "nowhere")
    asking = Asking(TaskRows(task, "bench"), config.llm, config.annotate, config.run, config.cluster.llm)
    engine = LLM(model, **engine_arguments(asking))
    parameters = SamplingParams(
        temperature=config.annotate.temperature,
        top_p=config.annotate.top_p,
        top_k=config.annotate.top_k,
        max_tokens=config.annotate.max_new_tokens,
        logprobs=LIKELIEST if config.annotate.expected_grade else None,
        structured_outputs=StructuredOutputsParams(json=asking.schema),
    )
    tokenizer = engine.get_tokenizer()
    made = task()
    prompts = [
        tokenizer.apply_chat_template(messages(made.request(row)), tokenize=False, add_generation_prompt=True)
        for row in pairs.to_pylist()
    ]
    engine.generate(prompts[-64:], parameters, use_tqdm=False)  # warm
    engine.reset_prefix_cache()
    started = time.perf_counter()
    outputs = engine.generate(prompts, parameters, use_tqdm=False)
    seconds = time.perf_counter() - started
    tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
    print(json.dumps({"rows_per_second": len(outputs) / seconds, "output_tokens": tokens}), flush=True)  # noqa: T201
    os._exit(0)  # vLLM 0.32 on a CPU may hang while it shuts down


def _platform_here(arguments: argparse.Namespace, model: str, console: Console) -> None:
    """By itself, to be looked at with a profiler."""
    pairs, queries, documents = _pairs(arguments.prompts)
    console.print(_platform(arguments, model, pairs, partial(_task, queries, documents)))


def _vllm(arguments: argparse.Namespace, model: str, console: Console) -> None:
    pairs, queries, documents = _pairs(arguments.prompts)
    task = partial(_task, queries, documents)
    table = Table(title=f"{arguments.prompts} pairs, one vLLM engine, {arguments.device}, rows/s")
    for name in ("round", "bare vLLM", "platform", "ratio"):
        table.add_column(name, justify="right")
    ratios = []
    for number in range(arguments.rounds):
        bare = _bare(arguments, model)["rows_per_second"]
        ours = _platform(arguments, model, pairs, task)["rows_per_second"]
        ratios.append(ours / bare)
        table.add_row(str(number + 1), f"{bare:.1f}", f"{ours:.1f}", f"{ratios[-1]:.2f}")
    console.print(table)
    console.print(f"median ratio {statistics.median(ratios):.2f} (at least 0.85 is wanted)")


def _prefix(arguments: argparse.Namespace, model: str, console: Console) -> None:
    pairs, queries, documents = _pairs(arguments.prompts)
    order = list(range(pairs.num_rows))
    random.Random(1).shuffle(order)
    table = Table(title=f"{arguments.prompts} pairs, prefix caching on")
    for name in ("order", "rows/s", "prefix-cache hit rate"):
        table.add_column(name, justify="right")
    rates = {}
    for name, rows in (("grouped by query", pairs), ("shuffled", pairs.take(order))):
        figures = _platform(arguments, model, rows, partial(_task, queries, documents))
        rates[name] = figures["rows_per_second"]
        hits = figures.get("prefix_cache_hit_rate")
        table.add_row(name, f"{rates[name]:.1f}", "-" if hits is None else f"{hits:.3f}")
    console.print(table)
    console.print(f"grouped / shuffled {rates['grouped by query'] / rates['shuffled']:.2f}")


# ---- the engine without a language model


def _extractive(arguments: argparse.Namespace, model: str, console: Console) -> None:
    from reasonembed.pipeline.pipeline import Pipeline

    settings = {
        "run": {"root": arguments.root},
        "corpus": {"source": "pydocs"},
        "generate": {"max_queries": 500, "min_chars": 80},
        "mine": {"keep": CANDIDATES},
        "encode": {"max_tokens": 256},
    }
    pipeline = Pipeline(Config.model_validate(settings), announce=console.print)
    artifact = pipeline.annotate()
    figures, actors = artifact.figures, pipeline.config.run.actors
    per_row = figures["engine_seconds"] / figures["calls"]
    steady = 1 - per_row * figures["rows_per_second"] / actors
    whole = 1 - figures["engine_seconds"] / actors / artifact.seconds
    console.print(
        f"pydocs, {figures['calls']} pairs, {actors} actors: {figures['rows_per_second']:.0f} rows/s; "
        f"outside the engine's own work: {steady:.0%} of the time at work, {whole:.0%} of the stage with its start-up "
        f"({artifact.seconds:.1f} s)"
    )


def _random_model(folder: Path) -> str:
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from parts import write_llm

    return str(write_llm(folder, *MODEL_SIZE))


PARTS = {
    "vllm": _vllm,
    "prefix": _prefix,
    "extractive": _extractive,
    # Halves of the first, each in a process of its own.
    "bare": _bare_here,
    "platform": _platform_here,
}

if __name__ == "__main__":
    if (
        "bare" not in sys.argv
        and subprocess.run(["git", "-C", str(REPOSITORY), "diff", "--quiet"], check=False).returncode
    ):
        Console(stderr=True).print("the working tree has changes; a result to keep is one of a commit", style="yellow")
    main()
