"""The frame around every script in ``jobs/``: arguments, errors as one line, exit codes, the closing JSON line."""

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import psutil
from rich.console import Console

from reasonembed import storage
from reasonembed.artifacts import Artifact
from reasonembed.config import Config, load_config
from reasonembed.distributed.ray_backend import RayBackend
from reasonembed.distributed.ray_errors import expected_error
from reasonembed.pipeline.pipeline import Pipeline

INTERRUPTED = 130
"""Exit code that a shell reports for a program that was ended by Ctrl-C."""

Result = Artifact | tuple[str, dict[str, Any]]
"""What a job produces: an artifact, or the URI of something else and its figures."""


def run_stage(name: str) -> NoReturn:
    """Runs one stage and whatever it needs before it."""
    run_job(name, lambda pipeline: pipeline.run(name))


def run_job(name: str, work: Callable[[Pipeline], Result]) -> NoReturn:
    """Runs a job's work and exits: with 0 if its result is complete, 2 for bad input, 1 otherwise."""
    console = Console(stderr=True, highlight=False)

    def body() -> str:
        config = _read_config(sys.argv[1:])
        announce = lambda text: console.print(f"[bold]{text}", soft_wrap=True)  # noqa: E731
        result = work(Pipeline(config, RayBackend(config), announce))
        uri, figures = (result.uri, dict(result.figures)) if isinstance(result, Artifact) else result
        return json.dumps({"stage": name, "artifact": uri, **figures})

    _exit(*_guarded(body, console))


def run_service() -> NoReturn:
    """Serves the run's index until Ctrl-C."""

    def body() -> str:
        from reasonembed.distributed.serve.application import serve_forever

        try:
            serve_forever(_read_config(sys.argv[1:]))
        except KeyboardInterrupt:
            Console(stderr=True).print("stopped")
        return ""

    _exit(*_guarded(body, Console(stderr=True, highlight=False)))


def run_submission() -> NoReturn:
    """Submits a job to a cluster and exits with the exit code of the job, if it was followed."""
    from reasonembed.cli.submission import submit

    console = Console(stderr=True, highlight=False)
    codes = []

    def body() -> str:
        codes.append(submit(sys.argv[1:], console))
        return ""

    failed, _ = _guarded(body, console)
    _exit(failed or codes[0], "")


def run_comparison(arguments: Sequence[str]) -> NoReturn:
    """Compares two evaluations and writes a page with both: ``compare A B``."""
    console = Console(stderr=True, highlight=False)

    def body() -> str:
        from reasonembed.evaluation.compare import compare, write_page
        from reasonembed.pipeline.run_report import show

        parser = argparse.ArgumentParser(prog="evaluate.py compare", description="Compare two evaluations.")
        parser.add_argument("a", help="folder of a finished evaluation")
        parser.add_argument("b", help="folder of another one, of the same questions")
        parser.add_argument("--to", default="compare.html", help="file to write")
        options = parser.parse_args(arguments)
        comparison = compare(options.a, options.b, Config())
        uri = storage.absolute(options.to)
        write_page(comparison, uri)
        show(comparison.page, uri)
        return json.dumps({"stage": "compare", "artifact": uri, **comparison.figures})

    _exit(*_guarded(body, console))


def run_body(body: Callable[[], str], console: Console) -> NoReturn:
    """Runs the body of a job, which returns the closing line, and exits."""
    _exit(*_guarded(body, console))


def _guarded(body: Callable[[], str], console: Console) -> tuple[int, str]:
    """Returns the exit code and the closing line of a job's body."""
    quiet_libraries()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return 0, body()
    except Exception as raised:
        error = expected_error(raised)
        if error is None:
            raise
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return error.exit_code, ""
    except KeyboardInterrupt:
        console.print("interrupted; the same command continues from here", style="yellow")
        return INTERRUPTED, ""


def _read_config(arguments: Sequence[str]) -> Config:
    parser = argparse.ArgumentParser(description="Run a job of reasonembed.")
    parser.add_argument("config", help="YAML file; examples are in jobs/configs/")
    parser.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="takes precedence over the file and the environment"
    )
    options = parser.parse_args(arguments)
    return load_config(options.config, options.overrides)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def quiet_libraries() -> None:
    """Silences warnings of libraries that tell users of a job nothing."""
    warnings.simplefilter("ignore", FutureWarning)
    # A resumed stage often has fewer blocks left than actors.
    warnings.filterwarnings("ignore", message="The minimum number of concurrent actors")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # It logs each failed attempt; the job ends with one line of its own.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def _exit(code: int, closing_line: str) -> NoReturn:
    if "ray" in sys.modules:
        if code == INTERRUPTED:
            _kill_children()
        else:
            import ray

            ray.shutdown()
    if closing_line:
        # After Ray has shut down: none of its messages may follow the line that scripts read.
        print(closing_line)  # noqa: T201
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of Ray and FAISS must not delay the exit of a finished job, or change its code


def _kill_children() -> None:
    """Kills the Ray processes that this process started. An interrupted job has threads inside Ray, whose library would
    end the process with an exit code of its own if Ray were shut down while they run."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
