import time

import pyarrow as pa
import pytest
import requests
from llm_test_tasks import RecordingUsage, Reference, word_rows

from reasonembed.distributed.llm import usage as module
from reasonembed.distributed.llm.usage import (
    StageUsage,
    UsageCounts,
    UsageReporter,
    prefix_cache_counters,
    report_usage,
)
from reasonembed.llm.circuit_breaker import EngineUnavailable
from reasonembed.llm.protocol import Answer
from reasonembed.llm.reject_reasons import TOO_LONG
from reasonembed.llm.task_rows import scratch_schema

PAGE = """\
# HELP ray_vllm_prefix_cache_queries_total Tokens that were looked up.
# TYPE ray_vllm_prefix_cache_queries_total counter
ray_vllm_prefix_cache_queries_total{WorkerId="a",engine="0"} 100.0
ray_vllm_prefix_cache_queries_total{engine="0",WorkerId="b"} 50.0
# HELP ray_vllm_prefix_cache_hits_total Tokens that were found.
# TYPE ray_vllm_prefix_cache_hits_total counter
ray_vllm_prefix_cache_hits_total{WorkerId="a",engine="0"} 60.0
ray_vllm_prefix_cache_hits_total{WorkerId="b",engine="0"} 0.0
# HELP ray_vllm_num_requests_running Requests.
# TYPE ray_vllm_num_requests_running gauge
ray_vllm_num_requests_running{WorkerId="a"} 3.0
"""


def stage_usage(total=100, gpus=0, **values):
    return StageUsage("annotate", total, gpus, actor=None, **values)


def test_counts_are_summed(monkeypatch):
    monkeypatch.setattr(module.time, "time", lambda: 5.0)
    counts = UsageCounts()
    counts.add(4, 1, 100, 10)
    counts.add(6, 0, 200, 20)
    assert (counts.rows, counts.rejected, counts.input_tokens, counts.output_tokens) == (10, 1, 300, 30)
    assert (counts.first_time, counts.first_rows, counts.last_time) == (5.0, 4, 5.0)


def test_the_throughput_leaves_out_the_start_of_the_engines(monkeypatch):
    times = iter([100.0, 102.0, 104.0])
    monkeypatch.setattr(module.time, "time", lambda: next(times))
    counts = UsageCounts()
    assert counts.rows_per_second is None
    counts.add(50, 0, 0, 0)
    assert counts.rows_per_second is None  # a single batch says nothing about the time between batches
    counts.add(10, 0, 0, 0)
    assert counts.rows_per_second == 10 / 2
    counts.add(30, 0, 0, 0)
    assert counts.rows_per_second == 40 / 4


def test_the_hit_rate_is_that_of_this_run():
    usage = stage_usage()
    assert usage.hit_rate() is None
    usage.prefix_cache = {"queries engine=0": 300.0, "hits engine=0": 150.0, "queries engine=1": 100.0}
    assert usage.hit_rate() == 150 / 400
    usage.prefix_cache_before = {"queries engine=0": 200.0, "hits engine=0": 110.0}
    assert usage.hit_rate() == 40 / 200


def test_figures_for_the_record():
    counts = UsageCounts(rows=50, first_time=10.0, last_time=20.0, first_rows=20)
    usage = stage_usage(gpus=4, started=2.0, counts=counts)
    usage.prefix_cache = {"queries ": 3.0, "hits ": 1.0}
    assert usage.figures() == {"rows_per_second": 3.0, "prefix_cache_hit_rate": 0.3333, "gpu_hours": 0.02}
    assert stage_usage().figures() == {"rows_per_second": None}


def test_the_line_beside_the_progress_bar():
    assert stage_usage().line() == "annotate"
    counts = UsageCounts(10, 1, 1_500_000, 900, first_time=0.0, last_time=1.0)
    usage = stage_usage(total=3610, gpus=2, counts=counts)
    assert usage.line() == ("annotate, 10.0 rows/s, 0.20 GPU-hours left, 1.5 M tokens in, 900 out, 1 rejected")


def test_the_prefix_cache_counters_of_a_metrics_page():
    assert prefix_cache_counters(PAGE) == {
        "queries WorkerId=a,engine=0": 100.0,
        "queries WorkerId=b,engine=0": 50.0,
        "hits WorkerId=a,engine=0": 60.0,
        "hits WorkerId=b,engine=0": 0.0,
    }
    assert prefix_cache_counters("") == {}


def test_counters_of_a_dead_engine_keep_their_last_value(monkeypatch):
    nodes = [
        {"Alive": True, "NodeManagerAddress": "one", "MetricsExportPort": 1},
        {"Alive": True, "NodeManagerAddress": "unreachable", "MetricsExportPort": 2},
        {"Alive": False, "NodeManagerAddress": "dead", "MetricsExportPort": 3},
    ]
    urls = []

    class Response:
        text = PAGE

    def get(url, timeout):
        urls.append(url)
        if "unreachable" in url:
            raise requests.ConnectionError
        return Response

    monkeypatch.setattr(module.ray, "nodes", lambda: nodes)
    monkeypatch.setattr(module.requests, "get", get)
    usage = stage_usage()
    usage.prefix_cache = {"queries engine=old": 7.0}
    usage.scrape()
    assert urls == ["http://one:1/metrics", "http://unreachable:2/metrics"]
    assert usage.prefix_cache == {"queries engine=old": 7.0, **prefix_cache_counters(PAGE)}


def test_the_reporter_casts_rows_to_the_schema_and_counts_them():
    rows = word_rows()
    answers = [Answer(text='{"word": "a"}', input_tokens=5, output_tokens=2), Answer(error="x", input_tokens=3)]
    table = rows.table([{"id": "1"}, {"id": "2"}], answers)
    schema = scratch_schema(rows.task.schema)
    shuffled = table.select(table.schema.names[::-1])
    shuffled = shuffled.set_column(0, "engine_seconds", pa.nulls(2)).append_column("more", pa.array([1, 2]))
    usage = RecordingUsage()
    reported = UsageReporter(schema, usage)(shuffled)
    assert reported.schema == schema
    assert reported.equals(table)
    assert usage.counts == [(2, 1, 8, 2)]


def test_the_reporter_leaves_out_rows_that_wait_for_a_working_engine(monkeypatch):
    monkeypatch.setattr(module.ray, "get", Reference.get)
    rows, usage = word_rows(), RecordingUsage()
    failed, too_long = Answer(error="transport: RuntimeError: CUDA error"), Answer(error=TOO_LONG, permanent=True)
    table = rows.table([{"id": str(n)} for n in range(6)], [*[failed] * 5, too_long])
    schema = scratch_schema(rows.task.schema)
    assert UsageReporter(schema, usage)(table)["id"].to_pylist() == ["5"]
    assert usage.counts == [(1, 1, 0, 0)]
    [message] = usage.outages
    assert message.startswith("llm.engine vllm: all 5 requests of a batch have failed (transport: RuntimeError")
    with pytest.raises(EngineUnavailable):
        UsageReporter(schema, None)(table)


def test_a_few_failures_of_the_engine_are_written_to_be_repeated():
    rows, usage = word_rows(), RecordingUsage()
    failed = Answer(error="transport: RuntimeError: CUDA error")
    table = rows.table([{"id": str(n)} for n in range(5)], [*[failed] * 4, Answer(text="no JSON")])
    assert UsageReporter(scratch_schema(rows.task.schema), usage)(table).num_rows == 5
    assert usage.outages == []


def test_the_counting_actor_holds_the_first_outage():
    actor = module._UsageActor.__ray_metadata__.modified_class()
    assert actor.outage() is None
    actor.report_outage("first")
    actor.report_outage("second")
    assert actor.outage() == "first"


@pytest.mark.parametrize("usage", [None, RecordingUsage()])
def test_an_empty_table_is_not_reported(usage):
    table = word_rows().table([], [])
    assert report_usage(table, usage) is table
    assert usage is None or usage.counts == []


def test_the_clock_starts_with_the_stage():
    assert stage_usage().started == pytest.approx(time.time(), abs=5)
