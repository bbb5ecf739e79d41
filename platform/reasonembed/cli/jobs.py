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
from reasonembed.errors import intended
from reasonembed.pipeline.pipeline import Pipeline

INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended


def run_job(stage: str, work: Callable[[Pipeline], Artifact | tuple[str, dict[str, Any]]]) -> NoReturn:
    """Run a job's work and leave with its exit code: 0 if the artefact is complete, 2 for bad input, 1 otherwise."""
    console = Console(stderr=True, highlight=False)

    def body() -> str:
        config = _config(sys.argv[1:])
        result = work(Pipeline(config, announce=lambda text: console.print(f"[bold]{text}", soft_wrap=True)))
        uri, figures = (result.uri, dict(result.figures)) if isinstance(result, Artifact) else result
        return json.dumps({"stage": stage, "artifact": uri, **figures})

    _leave(*_guarded(body, console))


def run_service() -> NoReturn:
    def body() -> str:
        from reasonembed.distributed.serve.application import serve_forever

        try:
            serve_forever(_config(sys.argv[1:]))
        except KeyboardInterrupt:
            Console(stderr=True).print("stopped")
        return ""

    _leave(*_guarded(body, Console(stderr=True, highlight=False)))


def run_submission() -> NoReturn:
    """Leave with the exit code of the job that was followed, as if it had run here."""
    from reasonembed.cli.submission import submit

    console = Console(stderr=True, highlight=False)
    codes = []

    def body() -> str:
        codes.append(submit(sys.argv[1:], console))
        return ""

    failed, _ = _guarded(body, console)
    _leave(failed or codes[0], "")


def run_comparison(arguments: Sequence[str]) -> NoReturn:
    """``compare A B``: two evaluations side by side."""
    console = Console(stderr=True, highlight=False)

    def body() -> str:
        from reasonembed.evaluation.compare import compare, write_page
        from reasonembed.pipeline.run_report import show

        parser = argparse.ArgumentParser(prog="evaluate.py compare", description="Put two evaluations side by side.")
        parser.add_argument("a", help="folder of a finished evaluation")
        parser.add_argument("b", help="folder of another, of the same questions")
        parser.add_argument("--to", default="compare.html", help="where the page goes")
        known = parser.parse_args(arguments)
        found = compare(known.a, known.b, Config())
        uri = storage.absolute(known.to)
        write_page(found, uri)
        show(found.page, uri)
        return json.dumps({"stage": "compare", "artifact": uri, **found.figures})

    _leave(*_guarded(body, console))


def _guarded(body: Callable[[], str], console: Console) -> tuple[int, str]:
    """Exit code and closing line of a job's body."""
    quiet_libraries()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return 0, body()
    except Exception as raised:
        error = intended(raised)
        if error is None:
            raise
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return error.exit_code, ""
    except KeyboardInterrupt:
        console.print("interrupted; the same command goes on from here", style="yellow")
        return INTERRUPTED, ""


def _config(arguments: Sequence[str]) -> Config:
    parser = argparse.ArgumentParser(description="Run a job of reasonembed.")
    parser.add_argument("config", help="YAML file; examples are in jobs/configs/")
    parser.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="laid over the file and the environment"
    )
    known = parser.parse_args(arguments)
    return load_config(known.config, known.overrides)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def quiet_libraries() -> None:
    warnings.simplefilter("ignore", FutureWarning)
    # A resumed stage may have fewer blocks left than actors, which is no news to anybody.
    warnings.filterwarnings("ignore", message="The minimum number of concurrent actors")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # Says how each try went wrong; the error that comes of it is one line of our own.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def _leave(code: int, closing_line: str) -> NoReturn:
    if "ray" in sys.modules:
        if code == INTERRUPTED:
            _end_children()
        else:
            import ray

            ray.shutdown()
    if closing_line:
        # After Ray has gone: its messages must not come behind the line that scripts read.
        print(closing_line)  # noqa: T201
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # Ray's and FAISS's threads must not hold back the exit code of a finished job


def _end_children() -> None:
    """End what this process started of Ray at once. An interrupted job has threads at work in Ray, whose library would
    end the process with a code of its own if it were shut down under them."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
