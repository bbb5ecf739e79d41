"""A cluster with dashboard and token on which jobs are submitted and the endpoint is deployed, with all data on S3.

At the end, none of the secret keys may be in a file, a log or a command line.
"""

import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import psutil
import pytest
import requests
import yaml
from clusters import BIN, Head, running_head
from factories import write_config
from processes import free_port, responds, wait_for
from ray.job_submission import JobStatus, JobSubmissionClient

from reasonembed import artifacts, provenance, storage

pytestmark = pytest.mark.extended

ROOT = "s3://cluster/run"


@dataclass
class Cluster:
    """A running cluster and its clients."""

    head: Head
    config: Path
    llm_url: str
    """A server that requires a key."""
    secrets: dict[str, str]
    """Keys and tokens by their use; none of them may be in any output."""
    outputs: list[str] = field(default_factory=list)
    """Everything that jobs and clients wrote to the terminal."""

    def run_client(self, *command: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            env={**os.environ, **self.head.env, **env},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        self.outputs += [done.stdout, done.stderr]
        return done

    def submit(self, *arguments: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs ``jobs/submit.py``."""
        script = Path(__file__).parents[2] / "jobs" / "submit.py"
        return self.run_client(sys.executable, script, *arguments, "--address", self.head.address, cwd=cwd, **env)

    def ray_job_submit(self, *entrypoint: object, repository: Path) -> subprocess.CompletedProcess[str]:
        """Runs ``ray job submit``."""
        options = ("--address", self.head.address, "--working-dir", ".")
        return self.run_client(BIN / "ray", "job", "submit", *options, "--", "python", *entrypoint, cwd=repository)

    @property
    def jobs(self) -> JobSubmissionClient:
        return JobSubmissionClient(self.head.address, headers=self.head.headers)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, tiny_corpus, tiny_model, s3_server, repository) -> Iterator[Cluster]:
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "LLM_API_KEY", "endpoint")
    keys = {name: secrets.token_hex(20) for name in names}
    folder = tmp_path_factory.mktemp("cluster")
    boto3.client("s3").create_bucket(Bucket="cluster")
    # Other tests cover the training itself.
    train = {"workers": 1, "engine": "torch", "zero_stage": 0, "steps": 2, "ri_start_step": 1}
    config = write_config(folder / "tiny.yaml", ROOT, tiny_corpus, tiny_model, train=train)
    (folder / "keys").write_text(f"tests: {keys['endpoint']}\n")
    env = {name: value for name, value in keys.items() if name.isupper()}
    # As in the image, every process of Ray can import serve/.
    env |= {"PYTHONPATH": str(repository)}
    with running_llm_server(keys["LLM_API_KEY"]) as llm_url, running_head("--num-cpus=4", **env) as head:
        yield Cluster(head, config, llm_url, keys | {"token": head.env["RAY_AUTH_TOKEN"]})


@pytest.fixture(scope="module")
def command_lines(cluster) -> Iterator[set[str]]:
    """Command lines of all processes that exist during the tests, collected twice a second."""
    lines: set[str] = set()
    stop = threading.Event()

    def collect() -> None:
        while not stop.wait(0.5):
            lines.update(" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))

    thread = threading.Thread(target=collect)
    thread.start()
    yield lines
    stop.set()
    thread.join()


@pytest.fixture(scope="module")
def submitted_run(cluster, command_lines, tmp_path_factory):
    """The whole pipeline, submitted by ``jobs/submit.py`` in another working directory."""
    return cluster.submit("pipeline", cluster.config, "--wait", cwd=tmp_path_factory.mktemp("elsewhere"))


def test_submit_follows_a_pipeline_to_its_end_from_another_folder(cluster, submitted_run):
    assert submitted_run.returncode == 0, submitted_run.stdout + submitted_run.stderr
    closing = next(line for line in submitted_run.stdout.splitlines() if line.startswith('{"stage": "pipeline"'))
    assert json.loads(closing)["artifact"].startswith(ROOT)
    (details,) = [job for job in cluster.jobs.list_jobs() if job.metadata.get("job") == "pipeline"]
    assert details.submission_id.startswith("pipeline-tiny-20")
    assert details.metadata["commit"] == provenance.git_commit()
    models = artifacts.finished(ROOT, "train")
    assert [artifact.record["git_commit"] for artifact in models] == [provenance.git_commit()]


def test_ray_job_submit_reuses_the_finished_stages(cluster, submitted_run, repository):
    done = cluster.ray_job_submit("jobs/pipeline.py", cluster.config, repository=repository)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "train: done before, nothing to do" in done.stdout
    assert "succeeded" in done.stdout


def test_the_client_ends_with_the_exit_code_of_a_failed_job(cluster, repository, tmp_path):
    overrides = ("llm.engine=http", "llm.model=m", "llm.url=http://127.0.0.1:9", "run.seed=7")
    done = cluster.submit("generate", cluster.config, *overrides, "--wait", cwd=tmp_path)
    assert done.returncode == 2
    assert "no answer from http://127.0.0.1:9" in done.stdout
    assert cluster.ray_job_submit("jobs/generate.py", cluster.config, *overrides, repository=repository).returncode != 0


def test_a_wrong_token_is_rejected(cluster, tmp_path):
    done = cluster.submit("corpus", cluster.config, cwd=tmp_path, RAY_AUTH_TOKEN=secrets.token_hex(32))
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: the cluster refuses it: Authentication failed")
    assert "Traceback" not in done.stderr


def test_bad_input_never_reaches_the_cluster(cluster, tmp_path):
    before = len(cluster.jobs.list_jobs())
    for arguments, message in (
        (("generat", cluster.config), "there is no job 'generat'"),
        (("generate", cluster.config, "mine.kep=1"), "unknown key 'mine.kep'"),
        (("generate", tmp_path / "no.yaml"), "no.yaml does not exist"),
        (("generate",), "name a job and a config"),
        (("--stop", "nobody"), "nobody does not exist"),
    ):
        done = cluster.submit(*arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert message in done.stderr.splitlines()[-1]
    assert len(cluster.jobs.list_jobs()) == before


def test_submit_stops_a_job(cluster, tmp_path):
    job = cluster.submit("pipeline", cluster.config, "run.root=s3://cluster/stopped", cwd=tmp_path).stdout.strip()
    wait_for(lambda: cluster.jobs.get_job_status(job) == JobStatus.RUNNING, cluster.head.process)
    assert cluster.submit("--stop", job, cwd=tmp_path).returncode == 0
    wait_for(lambda: cluster.jobs.get_job_status(job) == JobStatus.STOPPED, cluster.head.process, 60)


def test_the_key_of_a_language_model_is_read_on_the_machines(cluster, command_lines, tmp_path):
    overrides = ("llm.engine=http", "llm.model=m", f"llm.url={cluster.llm_url}", "generate.max_queries=3")
    done = cluster.submit("generate", cluster.config, *overrides, "run.max_reject_fraction=1", "--wait", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout.strip().splitlines()[-1])["calls"] >= 3


def test_an_endpoint_is_updated_in_place_without_a_failed_request(cluster, submitted_run, repository, tmp_path):
    config = yaml.safe_load((repository / "serve/production-cpu.yaml").read_text())
    port = free_port()
    config["http_options"] |= {"host": "127.0.0.1", "port": port}
    (application,) = config["applications"]
    application["args"] |= {"run_root": ROOT, "keys_file": str(cluster.config.parent / "keys")}
    encoder, gateway = application["deployments"]

    def deploy() -> None:
        (tmp_path / "serve.yaml").write_text(yaml.safe_dump(config))
        command = (BIN / "serve", "deploy", tmp_path / "serve.yaml", "--address", cluster.head.address)
        done = cluster.run_client(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr

    def count_replicas(deployment: str) -> int:
        url = f"{cluster.head.address}/api/serve/applications/"
        state = requests.get(url, headers=cluster.head.headers, timeout=30).json()["applications"]["search"]
        assert state["status"] != "DEPLOY_FAILED", state
        return sum(replica["state"] == "RUNNING" for replica in state["deployments"][deployment]["replicas"])

    deploy()
    url = f"http://127.0.0.1:{port}"
    wait_for(lambda: responds(f"{url}/readyz"), cluster.head.process)
    responses: list[requests.Response] = []
    stop = threading.Event()

    def send_requests() -> None:
        with requests.Session() as session:
            session.headers["Authorization"] = f"Bearer {cluster.secrets['endpoint']}"
            while not stop.is_set():
                responses.append(session.post(f"{url}/v1/search", json={"query": "ice on a lake"}, timeout=60))

    threads = [threading.Thread(target=send_requests) for _ in range(2)]
    for thread in threads:
        thread.start()
    gateway["user_config"]["index"] = artifacts.finished(ROOT, "index")[0].uri
    encoder["autoscaling_config"]["min_replicas"] = 2
    deploy()
    try:
        wait_for(lambda: count_replicas("encoder") == 2, cluster.head.process)
        before = len(responses)
        wait_for(lambda: len(responses) > before + 20, cluster.head.process)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert {response.status_code for response in responses} == {200}
    assert requests.post(f"{url}/v1/search", json={"query": "x"}, timeout=60).status_code == 401
    cluster.run_client(BIN / "serve", "shutdown", "-y", "--address", cluster.head.address, cwd=tmp_path)


def test_no_key_is_in_a_file_a_log_or_a_command_line(cluster, submitted_run, command_lines):
    """Runs after the tests above, in which every key is used."""
    time.sleep(1)
    texts = {f"command line: {line}": line.encode() for line in command_lines}
    texts |= {f"terminal {number}": output.encode() for number, output in enumerate(cluster.outputs)}
    files = [path for path in cluster.head.session.rglob("*") if path.is_file() and not path.is_symlink()]
    texts |= {str(path): path.read_bytes() for path in files}
    texts |= {name: storage.read_bytes(storage.join(ROOT, name)) for name in storage.list_files(ROOT)}
    assert any(name.endswith("_artifact.json") for name in texts)
    assert any("job-driver" in name for name in texts)
    assert sum(b"pipeline-tiny-20" in text for text in texts.values()) > 5  # a text that is present is found
    leaks = {
        (use, name[:200])
        for use, secret in cluster.secrets.items()
        for name, text in texts.items()
        if secret.encode() in text
    }
    assert not leaks


@contextmanager
def running_llm_server(key: str) -> Iterator[str]:
    """Runs a server that requires the key and always gives the same answer; yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._respond({"data": []})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            message = {"role": "assistant", "content": json.dumps({"query": "why does ice float"})}
            usage = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
            self._respond({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage})

        def _respond(self, body: dict[str, object]) -> None:
            authorized = self.headers["Authorization"] == f"Bearer {key}"
            self.send_response(200 if authorized else 401)
            self.end_headers()
            self.wfile.write(json.dumps(body if authorized else {}).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
