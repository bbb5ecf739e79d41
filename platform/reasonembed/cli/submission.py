"""``jobs/submit.py``: send a job with this checkout's code to a Ray cluster, follow it, stop it."""

import argparse
import asyncio
import logging
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console

from reasonembed import artifacts, storage
from reasonembed.config import Config, load_config
from reasonembed.config.loading import ENV_PREFIX
from reasonembed.errors import JobFailed, UserError

REPOSITORY = Path(__file__).parents[3]
CODE = ("jobs", "serve")
CONFIG = "config.yaml"
RECONNECT_SECONDS = 2.0


def submit(arguments: Sequence[str], console: Console) -> int:
    """What the command line says; returns the exit code.

    Raises:
        UserError: no such job or configuration, or no cluster that takes it.
    """
    known = _parser().parse_args(arguments)
    if known.stop:
        client = _client(known.address)
        _said(lambda: client.stop_job(known.stop))
        console.print(f"{known.stop} is being stopped; what it has finished stays")
        return 0
    if not (known.job and known.config):
        raise UserError("name a job and a config (submit.py pipeline CONFIG), or a job's id with --stop")
    script, path = _script(known.job), _config_file(known.config)
    config = load_config(path, known.overrides)
    if not storage.is_s3(config.run.root):
        console.print(
            f"run.root {config.run.root} is a folder of whichever machine looks for it; name s3://bucket/prefix "
            "unless the cluster is one machine or shares that folder",
            style="yellow",
            soft_wrap=True,
        )
    client = _client(known.address)
    job = _send(client, script, path, config, known.overrides)
    if known.wait:
        return _follow(client, job, console)
    console.print(
        f"follow it by `ray job logs --follow {job}`, stop it by `jobs/submit.py --stop {job}`", soft_wrap=True
    )
    print(job)  # noqa: T201 -- for scripts, alone on stdout
    return 0


def _send(client: Any, script: str, path: Path, config: Config, overrides: Sequence[str]) -> str:
    """The id of the job that the cluster has taken."""
    commit = artifacts.git_commit()
    # REASONEMBED_... are settings, and hold no secrets; keys come from the machines.
    variables = {name: value for name, value in os.environ.items() if name.startswith(ENV_PREFIX)}
    with _staged(path) as folder:
        environment = {
            "working_dir": str(folder),
            "py_modules": [str(Path(__file__).parents[1])],
            "env_vars": variables | ({artifacts.COMMIT: commit} if commit else {}),
        }
        sent = _said(
            lambda: client.submit_job(
                entrypoint=shlex.join(["python", script, CONFIG, *overrides]),
                submission_id=_name(script, path),
                runtime_env=environment,
                metadata={"job": Path(script).stem, "config": path.name, "commit": commit or "unknown"},
                # The job's own process goes where data work does: the head has the whole cluster to look after.
                entrypoint_num_cpus=config.cluster.data.cpus,
                entrypoint_label_selector=config.cluster.data.labels or None,
            )
        )
    return str(sent)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="submit.py", description="Run a job on a Ray cluster.")
    parser.add_argument("job", nargs="?", help="script in jobs/: pipeline, annotate, train, ...")
    parser.add_argument("config", nargs="?", help="YAML file; it travels with the job")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    parser.add_argument("--address", help="of the dashboard, http://host:8265; RAY_API_SERVER_ADDRESS when left out")
    parser.add_argument("--wait", action="store_true", help="follow the log and end with the job's exit code")
    parser.add_argument("--stop", metavar="ID", help="stop this job")
    return parser


def _script(job: str) -> str:
    name = f"{Path(job).stem}.py"
    if not (REPOSITORY / "jobs" / name).is_file() or name == "submit.py":
        there = sorted(path.stem for path in (REPOSITORY / "jobs").glob("*.py") if path.stem != "submit")
        raise UserError(f"there is no job {job!r}; there are {', '.join(there)}")
    return f"jobs/{name}"


def _config_file(name: str) -> Path:
    """Below the working directory, or below the checkout, where the ready ones are."""
    return next((path for path in (Path(name), REPOSITORY / name) if path.is_file()), Path(name))


@contextmanager
def _staged(config: Path) -> Iterator[Path]:
    """A folder with what the job needs and nothing else: neither runs nor virtual environments travel."""
    with tempfile.TemporaryDirectory(prefix="reasonembed-") as name:
        for part in CODE:
            shutil.copytree(REPOSITORY / part, Path(name) / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(config, Path(name) / CONFIG)
        yield Path(name)


def _name(script: str, config: Path) -> str:
    """``pipeline-quickstart-20270131-140502``: what and when, in any list of jobs."""
    stem = re.sub(r"[^a-z0-9]+", "-", config.stem.lower()).strip("-")
    return f"{Path(script).stem}-{stem}-{time.strftime('%Y%m%d-%H%M%S')}"


def _client(address: str | None) -> Any:
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray").setLevel(logging.WARNING)  # it tells of every file and connection
    return _said(lambda: JobSubmissionClient(address))


def _said(call: Any) -> Any:
    """The result of a call to the cluster; what it refuses is one line."""
    from ray.exceptions import RayError

    try:
        return call()
    except (OSError, RuntimeError, ValueError, RayError) as error:  # of requests, of Ray's client
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"the cluster does not take it: {first}") from None


def _follow(client: Any, job: str, console: Console) -> int:
    """Show the log until the job ends; Ctrl-C leaves it running."""
    from ray.job_submission import JobStatus

    shown = 0
    try:
        while not (status := _said(lambda: client.get_job_status(job))).is_terminal():
            shown = asyncio.run(_show(client, job, shown))
        shown = asyncio.run(_show(client, job, shown))
    except KeyboardInterrupt:
        console.print(f"{job} goes on; follow it by `ray job logs --follow {job}`", style="yellow", soft_wrap=True)
        return 130
    info = client.get_job_info(job)
    console.print(f"{job}: {status}", style="green" if status == JobStatus.SUCCEEDED else "red")
    if status == JobStatus.SUCCEEDED:
        return 0
    if info.driver_exit_code is None:
        raise JobFailed(f"{job}: {status}: {info.message}")
    return int(info.driver_exit_code) or 1


async def _show(client: Any, job: str, shown: int) -> int:
    """Print the log from character ``shown`` on, for as long as the connection lasts; returns how far it came."""
    seen = 0
    try:
        async for piece in client.tail_job_logs(job):
            sys.stdout.write(piece[max(0, shown - seen) :])
            sys.stdout.flush()
            seen += len(piece)
    except (RuntimeError, OSError, aiohttp.ClientError):
        # Closed before the job's end: by a proxy on the way, or a head that starts anew.
        await asyncio.sleep(RECONNECT_SECONDS)
    return max(shown, seen)
