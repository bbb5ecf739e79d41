"""A language model that fails in the middle of a stage: the job ends with one line, a second run pays for the rest."""

import hashlib
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from factories import write_bright, write_config

from reasonembed import artifacts, schemas

pytestmark = pytest.mark.extended

ROWS_PER_BLOCK = 16
ANSWERED = 70
"""Requests that are answered before the outage."""
SOURCES = 120


class FailingServer:
    """An OpenAI-compatible server whose requests fail with a status once it has answered a number of them.

    Attributes:
        answered: how often each prompt was answered.
        refused: number of requests that were not answered.
    """

    def __init__(self, status):
        self.status = status
        self.remaining = ANSWERED
        self.answered = Counter()
        self.refused = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def heal(self):
        """Ends the outage."""
        self.remaining = SOURCES * 10

    def respond(self, prompt):
        """Returns the status and the body of the response to a prompt; every query is another one."""
        with self._lock:
            if self.remaining <= 0:
                self.refused += 1
                return self.status, {"error": {"message": "no service"}}
            self.remaining -= 1
            self.answered[prompt] += 1
        words = hashlib.sha256(prompt.encode()).hexdigest()
        content = json.dumps({"query": " ".join(words[n : n + 8] for n in range(0, 64, 8))})
        usage = {"prompt_tokens": 10, "completion_tokens": 5}
        return 200, {"choices": [{"message": {"content": content}}], "usage": usage}

    def _handler(server):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                pass

            def do_GET(self):
                self._send(200, {"data": []})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._send(*server.respond(body["messages"][1]["content"]))

            def _send(self, status, body):
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        return Handler


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "the server refuses the key in LLM_API_KEY (HTTP 401: no service)"),
        (503, "20 requests in a row have failed, the last one with transport: HTTP 503"),
    ],
)
def test_an_outage_ends_the_job_and_a_second_run_asks_for_the_missing_rows(
    status, message, tmp_path, tiny_model, run_job
):
    server = FailingServer(status)
    corpus = write_bright(tmp_path / "corpus", documents_per_topic=40)
    config = write_config(
        tmp_path / "config.yaml",
        str(tmp_path / "runs"),
        corpus,
        tiny_model,
        run={"rows_per_block": ROWS_PER_BLOCK, "actors": 1, "max_reject_fraction": 1.0},
        llm={"engine": "http", "model": "m", "url": server.url, "http_retries": 1},
        generate={"max_queries": SOURCES, "min_chars": 40},
    )
    try:
        failed = run_job("generate", config)
        first_answers = Counter(server.answered)
        refused = server.refused
        server.heal()
        done = run_job("generate", config)
    finally:
        server.close()

    assert failed.returncode == 1, failed.stderr
    assert "Traceback" not in failed.stderr
    [error] = [line for line in failed.stderr.splitlines() if line.startswith("error: ")]
    assert error == failed.stderr.splitlines()[-1]
    assert error.startswith(f"error: language model at {server.url}/v1/chat/completions: ")
    assert message in error
    assert "the same command continues from here" in error
    assert first_answers.total() == ANSWERED
    assert refused <= 4 * ROWS_PER_BLOCK  # the breaker stops the requests of the actor

    assert done.returncode == 0, done.stderr
    artifact = artifacts.load(json.loads(done.stdout.splitlines()[-1])["artifact"])
    rows = artifact.table(schemas.QUERIES)
    assert rows.num_rows == SOURCES == len(server.answered)
    assert not any(reason for reason in rows["reject_reason"].to_pylist())
    assert set(server.answered.values()) == {1}  # no request was paid for twice
    assert server.refused == refused
