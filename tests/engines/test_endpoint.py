"""The endpoint on real Ray Serve, asked by many at once: two encoders, two gateways, and an index in two parts."""

import json
import re
import shutil
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis
import numpy as np
import openai
import psutil
import pytest
import ray
import requests
import schemathesis
from hypothesis import HealthCheck
from processes import serving
from schemathesis.checks import not_a_server_error
from sentence_transformers import SentenceTransformer

from reasonembed import artifacts
from reasonembed.config import load_config
from reasonembed.embedder.model import Embedder
from reasonembed.pipeline.pipeline import Pipeline
from reasonembed.serving.index_shards import DocumentFilter, IndexShards, finished_index

WORDS = "river rain ice snow bell song warm fire page flood number near".split()
TEXTS = [" ".join(WORDS[(n * k) % len(WORDS)] for k in range(1, 2 + n % 30)) for n in range(120)]
SECRET_WORD, KEY = "xylograph", "the-key-of-the-tests"
AUTHORISED = {"authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def indexes(finished):
    """Finished indexes by name: whole and in parts, of another kind, of another model."""

    def build(*overrides):
        return Pipeline(load_config(finished.config, overrides), announce=lambda text: None).index()

    made = {
        "whole": build(),
        "parts": build("index.shards=2"),
        "graph": build("index.shards=2", "index.kind=hnsw"),
        "base": build("index.shards=2", "index.model=base"),
    }
    ray.shutdown()
    return made


@dataclass
class Endpoint:
    url: str
    process: object
    root: Path
    texts: int = 0

    def point_to(self, place):
        """As ``run.root/index/latest`` is changed when an index is finished."""
        (self.root / "index").mkdir(parents=True, exist_ok=True)
        (self.root / "index" / "latest").write_text(json.dumps({"version": "x", "uri": str(place)}))

    def post(self, path, body, **options):
        options = {"headers": AUTHORISED, "timeout": 60} | options
        return requests.post(f"{self.url}{path}", json=body, **options)

    def live(self):
        return requests.get(f"{self.url}/readyz", timeout=60).json()["index"]

    def replicas(self, deployment):
        """Processes of a deployment's replicas."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        return [one for one in found if _title(one).startswith(f"ray::ServeReplica:search:{deployment}")]


def _title(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.fixture(scope="module")
def endpoint(finished, indexes, tmp_path_factory):
    root = tmp_path_factory.mktemp("served")
    endpoint = Endpoint("", None, root)
    endpoint.point_to(indexes["parts"].uri)
    settings = ["encoders=2", "gateways=2", "search_shards=2", "poll_seconds=0.2", "waiting=40", "body_bytes=100000"]
    overrides = [f"run.root={root}", *(f"serve.{setting}" for setting in settings)]
    with serving(finished.config, *overrides, SERVE_API_KEYS=f"tests: {KEY}") as (url, process):
        endpoint.url, endpoint.process = url, process
        yield endpoint


def test_openais_client_gets_the_librarys_vectors_however_requests_are_mixed(endpoint, indexes):
    place = indexes["parts"].record["config"]["model"]
    expected = SentenceTransformer(place, device="cpu").encode(TEXTS)
    client = openai.OpenAI(base_url=f"{endpoint.url}/v1", api_key=KEY)
    model = client.models.list().data[0].id

    def ask(numbers):
        form = {"encoding_format": "float"} if numbers[0] % 2 else {}  # the client asks for base64 by itself
        answer = client.embeddings.create(model=model, input=[TEXTS[n] for n in numbers], **form)
        return {n: one.embedding for n, one in zip(numbers, answer.data, strict=True)}

    groups = [list(range(start, start + 1 + start % 4)) for start in range(116)]
    with ThreadPoolExecutor(16) as pool:
        for answer in pool.map(ask, groups):
            for number, vector in answer.items():
                assert np.abs(np.array(vector) - expected[number]).max() < 1e-5
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{endpoint.url}/v1", api_key="wrong", max_retries=0).embeddings.create(
            model=model, input="x"
        )


def test_two_parts_in_two_processes_find_what_one_whole_finds(endpoint, indexes):
    whole = IndexShards(finished_index(indexes["whole"].uri))
    model = SentenceTransformer(indexes["whole"].record["config"]["model"], device="cpu")
    queries = TEXTS[:20]
    vectors = model.encode(queries)
    for within in (
        DocumentFilter(),
        DocumentFilter("nature"),
        DocumentFilter(None, ("physics/cold 0", "nature/sound 1")),
    ):
        body = {"query": queries, "top_k": 7, "task": within.task, "exclude_ids": list(within.exclude_ids)}
        for mode in ("dense", "bm25"):
            answer = endpoint.post("/v1/search", body | {"mode": mode}).json()
            of_whole = (
                whole.dense(vectors, 7, within) if mode == "dense" else [whole.lexical(q, 7, within) for q in queries]
            )
            for result, (positions, scores) in zip(answer["results"], of_whole, strict=True):
                documents = whole.documents(positions.tolist())
                assert [hit["doc_id"] for hit in result["hits"]] == [documents[p]["doc_id"] for p in positions.tolist()]
                assert [hit["score"] for hit in result["hits"]] == pytest.approx(scores.tolist(), abs=2e-6)
    both = endpoint.post("/v1/search", {"query": queries[3], "mode": "hybrid", "fusion": "rrf"}).json()
    assert len(both["results"][0]["hits"]) == 10


@dataclass
class Load:
    """Threads that ask without a pause, and what they were answered."""

    endpoint: Endpoint
    answers: list = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self):
        self.threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(6)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def _ask(self, number):
        with requests.Session() as session:
            while not self.stop.is_set():
                number += 1
                try:
                    body = {"query": TEXTS[number % len(TEXTS)], "top_k": 3}
                    answer = session.post(f"{self.endpoint.url}/v1/search", json=body, headers=AUTHORISED, timeout=60)
                    told = answer.json()
                    self.answers.append((answer.status_code, told.get("index"), told.get("model")))
                except requests.RequestException as error:
                    self.answers.append((type(error).__name__, None, None))

    @property
    def statuses(self):
        return Counter(status for status, _, _ in self.answers)

    def go_on(self, answers=60):
        """Wait for so many more answers."""
        end, wanted = time.time() + 120, len(self.answers) + answers
        while len(self.answers) < wanted:
            assert time.time() < end, self.statuses
            time.sleep(0.02)


def eventually(condition, seconds=60):
    end = time.time() + seconds
    while not condition():
        assert time.time() < end
        time.sleep(0.1)


def test_replicas_die_and_versions_change_and_no_request_fails(endpoint, indexes, tmp_path):
    first = indexes["parts"].fingerprint
    with Load(endpoint) as load:
        load.go_on()
        for deployment in ("encoder", "shard-1"):
            endpoint.replicas(deployment)[0].kill()
            load.go_on()
        eventually(lambda: len(endpoint.replicas("encoder")) == 2)

        endpoint.point_to(indexes["graph"].uri)  # another index of the same model
        eventually(lambda: load.go_on(5) or load.answers[-1][1] == indexes["graph"].fingerprint)
        endpoint.point_to(indexes["base"].uri)  # another model
        eventually(lambda: load.go_on(5) or load.answers[-1][1] == indexes["base"].fingerprint)
        load.go_on()

        for broken in broken_indexes(indexes["parts"], tmp_path):
            endpoint.point_to(broken)
            time.sleep(2)
            load.go_on(30)
        (endpoint.root / "index" / "latest").write_text("{half of a poin")
        load.go_on(30)
        endpoint.point_to(indexes["parts"].uri)
        eventually(lambda: load.go_on(5) or load.answers[-1][1] == first)
        load.go_on(30)
    assert set(load.statuses) == {200}, load.statuses
    served = {index: {model for _, one, model in load.answers if one == index} for _, index, _ in load.answers}
    assert set(served) == {indexes[name].fingerprint for name in ("parts", "graph", "base")}  # and nothing broken
    assert all(len(models) == 1 for models in served.values())
    assert served[first] != served[indexes["base"].fingerprint]


def broken_indexes(index, folder):
    """None that may ever answer: without a record, a file cut short, vectors of something else, of another length."""
    yield folder / "nothing"
    for name in ("cut", "other", "longer"):
        place = folder / "index" / name
        shutil.copytree(index.uri, place)
        record = json.loads((place / "_artifact.json").read_text())
        record["fingerprint"] = name
        file = place / "shard-00000" / "index.faiss"
        if name == "cut":
            file.write_bytes(file.read_bytes()[:-100])
        elif name == "other":
            _write_noise(place, record)
        else:
            record["figures"]["dimension"] += 1
        (place / "_artifact.json").write_text(json.dumps(record))
        yield place


def _write_noise(place, record):
    """Vectors that no model gave, in files that are whole."""
    import faiss

    from reasonembed import storage

    for file in place.glob("shard-*/index.faiss"):
        index = faiss.read_index(str(file))
        noise = faiss.IndexFlatIP(index.d)
        noise.add(np.random.default_rng(0).normal(size=(index.ntotal, index.d)).astype(np.float32))
        faiss.write_index(noise, str(file))
    for entry in record["files"]:
        entry.update(vars(storage.describe_file(str(place), entry["path"])))


def test_of_a_killed_gateway_only_requests_in_its_hands_are_lost(endpoint):
    with Load(endpoint) as load:
        load.go_on()
        endpoint.replicas("gateway")[0].kill()
        load.go_on()
        eventually(lambda: len(endpoint.replicas("gateway")) == 2)
        load.go_on()
    lost = sum(count for status, count in load.statuses.items() if status != 200)
    assert lost <= len(load.threads)


def test_more_than_it_can_do_is_refused_at_once_and_soon_forgotten(endpoint):
    body = {"input": ["the river and the rain and the bell " * 4] * 30}
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda _: endpoint.post("/v1/embeddings", body), range(120)))
    codes = Counter(answer.status_code for answer in answers)
    assert set(codes) == {200, 503}, codes
    assert all(answer.headers["retry-after"] == "1" for answer in answers if answer.status_code == 503)
    assert endpoint.post("/v1/embeddings", {"input": "x"}).elapsed.total_seconds() < 5


def test_no_input_makes_an_error_of_the_servers(endpoint):
    described = schemathesis.openapi.from_url(f"{endpoint.url}/openapi.json")
    asked = 0
    for found in described.get_all_operations():

        @hypothesis.settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @hypothesis.given(case=found.ok().as_strategy())
        def ask(case):
            nonlocal asked
            asked += 1
            case.call_and_validate(checks=[not_a_server_error], headers=AUTHORISED, timeout=60)

        ask()
    assert asked > 80


def test_limits_hold_through_ray_serve_too(endpoint):
    assert endpoint.post("/v1/search", {"query": "x"}, headers={}).status_code == 401
    assert endpoint.post("/v1/search", {"query": "x" * 200_000}).status_code == 413
    assert requests.post(f"{endpoint.url}/v1/search", data=b"{", headers=AUTHORISED, timeout=60).status_code == 422
    streamed = (b"x" * 10_000 for _ in range(20))
    assert requests.post(f"{endpoint.url}/v1/search", data=streamed, headers=AUTHORISED, timeout=60).status_code == 413
    answer = endpoint.post("/v1/search", {"query": "x"}, headers=AUTHORISED | {"x-request-id": "mine-7"})
    assert answer.headers["x-request-id"] == "mine-7"


def test_metrics_and_logs_tell_what_happened_and_no_secrets(endpoint):
    assert endpoint.post("/v1/search", {"query": SECRET_WORD}).status_code == 200
    processes = psutil.Process(endpoint.process.pid).children(recursive=True)
    titles = [_title(one) for one in processes]
    names = {
        "ray_reasonembed_request_seconds_count",
        "ray_reasonembed_stage_seconds_sum",
        "ray_reasonembed_batch_texts_bucket",
        "ray_reasonembed_tokens_total",
        "ray_reasonembed_waiting_texts",
        "ray_reasonembed_refused_requests_total",
        "ray_reasonembed_live",
    }
    page = ""

    def exported():
        nonlocal page
        page = metrics_page(processes)
        return names <= {line.split("{")[0] for line in page.splitlines()}

    eventually(exported)
    lived = [line for line in page.splitlines() if line.startswith("ray_reasonembed_live{") and line.endswith(" 1.0")]
    assert lived
    assert all(endpoint.live() in line for line in lived)
    logs = session_folder(titles)
    text = "".join(
        file.read_text(errors="replace") for file in logs.rglob("*") if file.is_file() and not file.is_symlink()
    )
    lines = [json.loads(line) for line in text.splitlines() if '"path": "/v1/search"' in line]
    written = [line for line in lines if line["status"] == 200]
    assert {"status", "milliseconds", "key", "texts", "tokens", "model", "index", "request_id"} <= set(written[-1])
    for secret in (SECRET_WORD, KEY):
        assert secret not in text
        assert not any(secret in title for title in titles)
    dashboard = json.loads((Path(__file__).parents[2] / "serve" / "grafana.json").read_text())
    asked = set(re.findall(r"ray_reasonembed_\w+", json.dumps(dashboard)))
    assert asked <= {line.split("{")[0] for line in page.splitlines()} | {"ray_reasonembed_retries_total"}


def metrics_page(processes):
    """What Ray's agent on this machine shows Prometheus, on a port of its choice."""
    [agent] = [one for one in processes if "ray::DashboardAgent" in _title(one)]
    for port in {one.laddr.port for one in agent.net_connections("tcp") if one.status == psutil.CONN_LISTEN}:
        try:
            answer = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10)
        except requests.RequestException:
            continue
        if answer.ok and "ray_" in answer.text:
            return answer.text
    return ""


def session_folder(titles):
    """Of Ray, where all its processes write their logs."""
    [found] = {match[1] for title in titles if (match := re.search(r"--log_dir=(\S+/logs)", title))}
    return Path(found)


def test_a_host_that_others_reach_needs_keys(finished, indexes, run_job):
    refused = run_job("serve", finished.config, "serve.host=0.0.0.0")
    assert refused.returncode == 2
    assert refused.stderr.strip().splitlines()[-1].startswith("error: serve.host 0.0.0.0 can be reached from elsewhere")
    nothing = run_job("serve", finished.config, "run.root=/nowhere")
    assert nothing.returncode == 2
    assert "holds no finished index" in nothing.stderr


def test_an_index_that_cannot_be_served_is_said_in_one_line(finished, indexes, tmp_path, run_job):
    *_, noise, _ = broken_indexes(indexes["parts"], tmp_path)
    failed = run_job("serve", finished.config, f"serve.index={noise}", "serve.encoders=0")
    assert failed.returncode == 1
    last = failed.stderr.strip().splitlines()[-1]
    assert last.startswith("error: no index can be served; ")
    assert "of its own documents by their texts" in last


def test_vllm_runs_the_model_behind_the_same_endpoint(finished, tiny_llm):
    overrides = [f"index.model={tiny_llm}", "serve.engine=vllm"]
    Pipeline(load_config(finished.config, overrides), announce=lambda text: None).index()
    ray.shutdown()
    expected = Embedder.load(str(tiny_llm)).encode(TEXTS[:40], 32)
    engine = {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}  # in the replica's own process it would not start
    with serving(finished.config, *overrides, **engine) as (url, _), ThreadPoolExecutor(8) as pool:
        post = lambda text: requests.post(f"{url}/v1/embeddings", json={"input": text}, timeout=120).json()  # noqa: E731
        for answer, vector in zip(pool.map(post, TEXTS[:40]), expected, strict=True):
            assert np.abs(np.array(answer["data"][0]["embedding"]) - vector).max() < 1e-5


def test_one_process_can_hold_the_index_and_run_the_model(finished, indexes):
    expected = Embedder.load(indexes["graph"].record["config"]["model"]).encode(TEXTS, 32)
    with serving(finished.config, f"serve.index={indexes['graph'].uri}", "serve.encoders=0") as (url, process):
        titles = [_title(one) for one in psutil.Process(process.pid).children(recursive=True)]
        replicas = [title for title in titles if title.startswith("ray::ServeReplica:search:")]
        assert [re.split("[:. ]", title)[4] for title in replicas] == ["gateway"]
        with ThreadPoolExecutor(8) as pool:
            post = lambda text: requests.post(f"{url}/v1/embeddings", json={"input": text}, timeout=60).json()  # noqa: E731
            for answer, vector in zip(pool.map(post, TEXTS), expected, strict=True):
                assert np.abs(np.array(answer["data"][0]["embedding"]) - vector).max() < 1e-5
        body = {"query": "The river and the rain make a flood", "top_k": 3, "task": "nature"}
        answer = requests.post(f"{url}/v1/search", json=body, timeout=60).json()
        hits = answer["results"][0]["hits"]
        assert answer["index"] == indexes["graph"].fingerprint
        assert [hit["task"] for hit in hits] == ["nature"] * 3
        excluded = {**body, "exclude_ids": [hits[0]["doc_id"]]}
        again = requests.post(f"{url}/v1/search", json=excluded, timeout=60).json()["results"][0]["hits"]
        assert again[:2] == hits[1:]
        assert artifacts.load(indexes["graph"].uri).figures["recall@10"] > 0.9
