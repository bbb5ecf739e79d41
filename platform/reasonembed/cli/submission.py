"""``jobs/submit.py``: submits a job with this checkout's code to a Ray cluster, follows it, stops it."""

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

from reasonembed import provenance, storage
from reasonembed.config import Config, load_config
from reasonembed.config.loading import ENV_PREFIX
from reasonembed.errors import JobFailed, UserError

REPOSITORY = Path(__file__).parents[3]
CODE = ("jobs", "serve")
CONFIG = "config.yaml"
RECONNECT_SECONDS = 2.0


def submit(arguments: Sequence[str], console: Console) -> int:
    """Submits, follows or stops a job as the command line says, and returns the exit code.

    Raises:
        UserError: the job or the configuration does not exist, or the cluster refuses the job.
    """
    options = _parser().parse_args(arguments)
    if options.stop:
        client = _client(options.address)
        _call_cluster(lambda: client.stop_job(options.stop))
        console.print(f"{options.stop} is being stopped; its finished stages remain")
        return 0
    if not (options.job and options.config):
        raise UserError("name a job and a config (submit.py pipeline CONFIG), or the id of a job with --stop")
    script, path = _script(options.job), _config_file(options.config)
    config = load_config(path, options.overrides)
    if not storage.is_s3(config.run.root):
        console.print(
            f"run.root {config.run.root} is a local folder on each machine; use s3://bucket/prefix unless the cluster "
            "is one machine or all machines share that folder",
            style="yellow",
            soft_wrap=True,
        )
    client = _client(options.address)
    job = _submit(client, script, path, config, options.overrides)
    if options.wait:
        return _follow(client, job, console)
    console.print(
        f"follow it with `ray job logs --follow {job}`, stop it with `jobs/submit.py --stop {job}`", soft_wrap=True
    )
    print(job)  # noqa: T201 -- for scripts, alone on stdout
    return 0


def _submit(client: Any, script: str, path: Path, config: Config, overrides: Sequence[str]) -> str:
    """Submits the job and returns its id."""
    commit = provenance.git_commit()
    # REASONEMBED_... variables are settings without secrets; keys come from the machines' own environment.
    variables = {name: value for name, value in os.environ.items() if name.startswith(ENV_PREFIX)}
    with _job_folder(path) as folder:
        environment = {
            "working_dir": str(folder),
            "py_modules": [str(Path(__file__).parents[1])],
            "env_vars": variables | ({provenance.COMMIT: commit} if commit else {}),
        }
        sent = _call_cluster(
            lambda: client.submit_job(
                entrypoint=shlex.join(["python", script, CONFIG, *overrides]),
                submission_id=_submission_id(script, path),
                runtime_env=environment,
                metadata={"job": Path(script).stem, "config": path.name, "commit": commit or "unoptions"},
                # The driver runs where data work runs, to leave the head's resources to the cluster's own services.
                entrypoint_num_cpus=config.cluster.data.cpus,
                entrypoint_label_selector=config.cluster.data.labels or None,
            )
        )
    return str(sent)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="submit.py", description="Run a job on a Ray cluster.")
    parser.add_argument("job", nargs="?", help="script in jobs/: pipeline, annotate, train, ...")
    parser.add_argument("config", nargs="?", help="YAML file; it is sent with the job")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    parser.add_argument("--address", help="of the dashboard, http://host:8265; default: RAY_API_SERVER_ADDRESS")
    parser.add_argument("--wait", action="store_true", help="follow the log and exit with the job's exit code")
    parser.add_argument("--stop", metavar="ID", help="stop this job")
    return parser


def _script(job: str) -> str:
    name = f"{Path(job).stem}.py"
    if not (REPOSITORY / "jobs" / name).is_file() or name == "submit.py":
        names = sorted(path.stem for path in (REPOSITORY / "jobs").glob("*.py") if path.stem != "submit")
        raise UserError(f"there is no job {job!r}; jobs are {', '.join(names)}")
    return f"jobs/{name}"


def _config_file(name: str) -> Path:
    """Returns the path of a config, relative to the working directory or to the checkout."""
    return next((path for path in (Path(name), REPOSITORY / name) if path.is_file()), Path(name))


@contextmanager
def _job_folder(config: Path) -> Iterator[Path]:
    """Yields a folder with what the job needs and nothing else, neither runs nor virtual environments."""
    with tempfile.TemporaryDirectory(prefix="reasonembed-") as name:
        for part in CODE:
            shutil.copytree(REPOSITORY / part, Path(name) / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(config, Path(name) / CONFIG)
        yield Path(name)


def _submission_id(script: str, config: Path) -> str:
    """Returns a name that says what runs since when, such as ``pipeline-quickstart-20270131-140502``."""
    stem = re.sub(r"[^a-z0-9]+", "-", config.stem.lower()).strip("-")
    return f"{Path(script).stem}-{stem}-{time.strftime('%Y%m%d-%H%M%S')}"


def _client(address: str | None) -> Any:
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray").setLevel(logging.WARNING)  # it logs every file and connection
    return _call_cluster(lambda: JobSubmissionClient(address))


def _call_cluster(call: Any) -> Any:
    """Returns the result of a call to the cluster; its errors become one line."""
    from ray.exceptions import RayError

    try:
        return call()
    except (OSError, RuntimeError, ValueError, RayError) as error:  # of requests, of Ray's client
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"the cluster refuses it: {first}") from None


def _follow(client: Any, job: str, console: Console) -> int:
    """Prints the log until the job ends and returns its exit code; Ctrl-C leaves it running."""
    from ray.job_submission import JobStatus

    shown = 0
    try:
        while not (status := _call_cluster(lambda: client.get_job_status(job))).is_terminal():
            shown = asyncio.run(_show(client, job, shown))
        shown = asyncio.run(_show(client, job, shown))
    except KeyboardInterrupt:
        console.print(f"{job} continues; follow it with `ray job logs --follow {job}`", style="yellow", soft_wrap=True)
        return 130
    info = client.get_job_info(job)
    console.print(f"{job}: {status}", style="green" if status == JobStatus.SUCCEEDED else "red")
    if status == JobStatus.SUCCEEDED:
        return 0
    if info.driver_exit_code is None:
        raise JobFailed(f"{job}: {status}: {info.message}")
    return int(info.driver_exit_code) or 1


async def _show(client: Any, job: str, shown: int) -> int:
    """Prints the log from character ``shown`` on while the connection lasts, and returns the number of characters that
    have been printed in all."""
    received = 0
    try:
        async for piece in client.tail_job_logs(job):
            sys.stdout.write(piece[max(0, shown - received) :])
            sys.stdout.flush()
            received += len(piece)
    except (RuntimeError, OSError, aiohttp.ClientError):
        # A proxy on the way, or a head that restarts, closed the connection before the job's end.
        await asyncio.sleep(RECONNECT_SECONDS)
    return max(shown, received)
