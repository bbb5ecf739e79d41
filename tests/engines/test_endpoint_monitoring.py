"""Metrics and logs of an endpoint on real Ray Serve: complete, and without secrets."""

import json
import re

import pytest
from endpoints import KEY, command_line, eventually, log_folder, metrics_page

pytestmark = pytest.mark.extended

SECRET_WORD = "xylograph"
METRICS = {
    "ray_reasonembed_request_seconds_count",
    "ray_reasonembed_stage_seconds_sum",
    "ray_reasonembed_batch_texts_bucket",
    "ray_reasonembed_tokens_total",
    "ray_reasonembed_waiting_texts",
    "ray_reasonembed_refused_requests_total",
    "ray_reasonembed_live",
}


@pytest.fixture(scope="module")
def secret_search(endpoint):
    """A search that has been answered, and another one that has been refused."""
    assert endpoint.post("/v1/search", {"query": SECRET_WORD}).status_code == 200
    assert endpoint.post("/v1/search", {"query": SECRET_WORD}, headers={}).status_code == 401


def test_the_metrics_of_the_dashboard_are_exported(endpoint, secret_search, repository):
    page = ""

    def exported_names():
        return {line.split("{")[0] for line in page.splitlines()}

    def all_are_exported():
        nonlocal page
        page = metrics_page(endpoint.processes())
        return exported_names() >= METRICS

    eventually(all_are_exported)
    live = [line for line in page.splitlines() if line.startswith("ray_reasonembed_live{") and line.endswith(" 1.0")]
    assert live
    assert all(endpoint.live_index() in line for line in live)
    dashboard = json.loads((repository / "serve" / "grafana.json").read_text())
    used = set(re.findall(r"ray_reasonembed_\w+", json.dumps(dashboard)))
    assert used <= exported_names() | {"ray_reasonembed_retries_total"}


def test_the_log_has_a_line_for_every_request_and_no_secrets(endpoint, secret_search):
    command_lines = [command_line(process) for process in endpoint.processes()]
    files = [path for path in log_folder(command_lines).rglob("*") if path.is_file() and not path.is_symlink()]
    text = "".join(path.read_text(errors="replace") for path in files)
    searches = [json.loads(line) for line in text.splitlines() if '"path": "/v1/search"' in line]
    answered = [line for line in searches if line["status"] == 200]
    assert {"status", "milliseconds", "key", "texts", "tokens", "model", "index", "request_id"} <= set(answered[-1])
    assert re.search(r'"message": "index \S+ is live"', text)
    for secret in (SECRET_WORD, KEY):
        assert secret not in text
        assert not any(secret in line for line in command_lines)
