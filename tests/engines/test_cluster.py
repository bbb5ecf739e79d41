"""A cluster as others use it: a head with dashboard and token, jobs sent to it, the endpoint deployed on it, everything
that is written going to S3; and of the keys that all this takes, not a word anywhere."""

import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import psutil
import pytest
import requests
import yaml
from clusters import BIN, Head, head
from parts import write_config
from processes import answers, free_port, wait_for
from ray.job_submission import JobStatus, JobSubmissionClient

from reasonembed import artifacts, storage

ROOT = "s3://cluster/run"


@dataclass
class Cluster:
    head: Head
    config: Path
    llm: str
    """URL of a server that wants a key."""
    keys: dict[str, str]
    """What must be nowhere, by what it is for."""
    said: list[str] = field(default_factory=list)
    """All that jobs and clients wrote to the terminal."""

    def client(self, *command: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            env={**os.environ, **self.head.env, **env},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        self.said += [done.stdout, done.stderr]
        return done

    def submit(self, *arguments: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
        script = Path(__file__).parents[2] / "jobs" / "submit.py"
        return self.client(sys.executable, script, *arguments, "--address", self.head.address, cwd=cwd, **env)

    def ray_job_submit(self, *entrypoint: object, repository: Path) -> subprocess.CompletedProcess[str]:
        options = ("--address", self.head.address, "--working-dir", ".")
        return self.client(BIN / "ray", "job", "submit", *options, "--", "python", *entrypoint, cwd=repository)

    @property
    def jobs(self) -> JobSubmissionClient:
        return JobSubmissionClient(self.head.address, headers=self.head.headers)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, tiny_corpus, tiny_model, s3_server, repository) -> Iterator[Cluster]:
    keys = {
        name: secrets.token_hex(20) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "LLM_API_KEY", "mine")
    }
    folder = tmp_path_factory.mktemp("cluster")
    boto3.client("s3").create_bucket(Bucket="cluster")
    # Training as such is tested elsewhere.
    short = {"workers": 1, "engine": "torch", "zero_stage": 0, "steps": 2, "ri_start_step": 1}
    config = write_config(folder / "tiny.yaml", ROOT, tiny_corpus, tiny_model, train=short)
    (folder / "keys").write_text(f"mine: {keys['mine']}\n")
    env = {name: value for name, value in keys.items() if name.isupper()}
    # As in the image: serve/ is found wherever Ray starts a process.
    options = {"PYTHONPATH": str(repository), **env}
    with canned_llm(keys["LLM_API_KEY"]) as llm, head("--num-cpus=4", "--labels=pool=cpu", **options) as started:
        yield Cluster(started, config, llm, keys | {"token": started.env["RAY_AUTH_TOKEN"]})


@pytest.fixture(scope="module")
def titles(cluster) -> Iterator[set[str]]:
    """Command lines of all processes that there ever were, seen twice a second."""
    seen: set[str] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.5):
            seen.update(" ".join(each.info["cmdline"] or []) for each in psutil.process_iter(["cmdline"]))

    thread = threading.Thread(target=watch)
    thread.start()
    yield seen
    stop.set()
    thread.join()


@pytest.fixture(scope="module")
def finished_run(cluster, titles, tmp_path_factory):
    """The pipeline through ``jobs/submit.py``, from another folder."""
    return cluster.submit("pipeline", cluster.config, "--wait", cwd=tmp_path_factory.mktemp("elsewhere"))


def test_a_pipeline_is_followed_to_its_end_from_another_folder(cluster, finished_run):
    assert finished_run.returncode == 0, finished_run.stdout + finished_run.stderr
    closing = next(line for line in finished_run.stdout.splitlines() if line.startswith('{"stage": "pipeline"'))
    assert json.loads(closing)["artifact"].startswith(ROOT)
    (details,) = [job for job in cluster.jobs.list_jobs() if job.metadata.get("job") == "pipeline"]
    assert details.submission_id.startswith("pipeline-tiny-20")
    assert details.metadata["commit"] == artifacts.git_commit()
    trained = artifacts.finished(ROOT, "train")
    assert [one.record["git_commit"] for one in trained] == [artifacts.git_commit()]


def test_rays_own_command_does_the_same_and_finds_it_done(cluster, finished_run, repository):
    done = cluster.ray_job_submit("jobs/pipeline.py", cluster.config, repository=repository)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "train: done before, nothing to do" in done.stdout
    assert "succeeded" in done.stdout


def test_a_job_that_fails_ends_the_client_as_it_ended(cluster, repository, tmp_path):
    wrong = ("llm.engine=http", "llm.model=m", "llm.url=http://127.0.0.1:9", "run.seed=7")
    done = cluster.submit("generate", cluster.config, *wrong, "--wait", cwd=tmp_path)
    assert done.returncode == 2
    assert "no answer from http://127.0.0.1:9" in done.stdout
    assert cluster.ray_job_submit("jobs/generate.py", cluster.config, *wrong, repository=repository).returncode != 0


def test_a_wrong_token_is_refused(cluster, tmp_path):
    done = cluster.submit("corpus", cluster.config, cwd=tmp_path, RAY_AUTH_TOKEN=secrets.token_hex(32))
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: the cluster does not take it: Authentication failed")
    assert "Traceback" not in done.stderr


def test_bad_input_never_reaches_the_cluster(cluster, tmp_path):
    before = len(cluster.jobs.list_jobs())
    for arguments, says in (
        (("generat", cluster.config), "there is no job 'generat'"),
        (("generate", cluster.config, "mine.kep=1"), "unknown key 'mine.kep'"),
        (("generate", tmp_path / "no.yaml"), "no.yaml does not exist"),
        (("generate",), "name a job and a config"),
        (("--stop", "nobody"), "nobody does not exist"),
    ):
        done = cluster.submit(*arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert says in done.stderr.splitlines()[-1]
    assert len(cluster.jobs.list_jobs()) == before


def test_a_job_is_stopped(cluster, tmp_path):
    job = cluster.submit("pipeline", cluster.config, "run.root=s3://cluster/stopped", cwd=tmp_path).stdout.strip()
    wait_for(lambda: cluster.jobs.get_job_status(job) == JobStatus.RUNNING, cluster.head.process)
    assert cluster.submit("--stop", job, cwd=tmp_path).returncode == 0
    wait_for(lambda: cluster.jobs.get_job_status(job) == JobStatus.STOPPED, cluster.head.process, 60)


def test_a_key_for_a_language_model_comes_from_the_machines(cluster, titles, tmp_path):
    asked = ("llm.engine=http", "llm.model=m", f"llm.url={cluster.llm}", "generate.max_queries=3")
    done = cluster.submit("generate", cluster.config, *asked, "run.max_reject_fraction=1", "--wait", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout.strip().splitlines()[-1])["calls"] >= 3


def test_the_service_changes_in_place_without_a_failed_request(cluster, finished_run, repository, tmp_path):
    written = yaml.safe_load((repository / "serve/production-cpu.yaml").read_text())
    port = free_port()
    written["http_options"] |= {"host": "127.0.0.1", "port": port}
    (application,) = written["applications"]
    application["args"] |= {"run_root": ROOT, "keys_file": str(cluster.config.parent / "keys")}
    encoder, gateway = application["deployments"]

    def deploy() -> None:
        (tmp_path / "serve.yaml").write_text(yaml.safe_dump(written))
        command = (BIN / "serve", "deploy", tmp_path / "serve.yaml", "--address", cluster.head.address)
        done = cluster.client(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr

    def replicas(name: str) -> int:
        url = f"{cluster.head.address}/api/serve/applications/"
        there = requests.get(url, headers=cluster.head.headers, timeout=30).json()["applications"]["search"]
        assert there["status"] != "DEPLOY_FAILED", there
        return sum(one["state"] == "RUNNING" for one in there["deployments"][name]["replicas"])

    deploy()
    url = f"http://127.0.0.1:{port}"
    wait_for(lambda: answers(f"{url}/readyz"), cluster.head.process)
    answered: list[requests.Response] = []
    stop = threading.Event()

    def ask() -> None:
        with requests.Session() as session:
            session.headers["Authorization"] = f"Bearer {cluster.keys['mine']}"
            while not stop.is_set():
                answered.append(session.post(f"{url}/v1/search", json={"query": "ice on a lake"}, timeout=60))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    pinned = artifacts.finished(ROOT, "index")[0].uri
    gateway["user_config"]["index"] = pinned
    encoder["autoscaling_config"]["min_replicas"] = 2
    deploy()
    try:
        wait_for(lambda: replicas("encoder") == 2, cluster.head.process)
        before = len(answered)
        wait_for(lambda: len(answered) > before + 20, cluster.head.process)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert {response.status_code for response in answered} == {200}
    assert requests.post(f"{url}/v1/search", json={"query": "x"}, timeout=60).status_code == 401
    cluster.client(BIN / "serve", "shutdown", "-y", "--address", cluster.head.address, cwd=tmp_path)


def test_no_key_is_in_a_file_a_log_or_the_list_of_processes(cluster, finished_run, titles):
    """After all of the above: every key was used, and none is found again."""
    time.sleep(1)
    places = {f"process: {title}": title.encode() for title in titles}
    places |= {f"terminal {number}": text.encode() for number, text in enumerate(cluster.said)}
    files = [path for path in cluster.head.session.rglob("*") if path.is_file() and not path.is_symlink()]
    places |= {str(path): path.read_bytes() for path in files}
    places |= {name: storage.read_bytes(storage.join(ROOT, name)) for name in storage.list_files(ROOT)}
    assert any(name.endswith("_artifact.json") for name in places)
    assert any("job-driver" in name for name in places)
    assert sum(b"pipeline-tiny-20" in text for text in places.values()) > 5  # what is there is found
    found = {
        (name, place[:200])
        for name, key in cluster.keys.items()
        for place, text in places.items()
        if key.encode() in text
    }
    assert not found


class canned_llm:
    """A server that lets nobody in without the key, and always answers the same."""

    def __init__(self, key: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer({"data": []})

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                message = {"role": "assistant", "content": json.dumps({"query": "why does ice float"})}
                usage = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
                self._answer({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage})

            def _answer(self, body: dict[str, object]) -> None:
                let_in = self.headers["Authorization"] == f"Bearer {key}"
                self.send_response(200 if let_in else 401)
                self.end_headers()
                self.wfile.write(json.dumps(body if let_in else {}).encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
