import pytest

from reasonembed.pipeline.cost import (
    Calls,
    CorpusSizes,
    Throughput,
    billions,
    estimated_calls,
    estimated_throughput,
    stage_cost,
    total_hours,
)

SIZES = CorpusSizes(eligible=500, sources=100, candidates=10, document_chars=2000, source_chars=1000)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("Qwen/Qwen3-8B", 8),
        ("meta-llama/Llama-3.1-8B-Instruct", 8),
        ("Qwen/Qwen2.5-72B-Instruct", 72),
        ("Qwen/Qwen3-0.6B", 0.6),
        ("./annotator", None),
        ("some/bge-base", None),
    ],
)
def test_the_size_is_read_from_the_name(name, size):
    assert billions(name) == size


def test_calls_follow_from_the_corpus():
    calls = estimated_calls(SIZES, clean=True)
    assert {stage: estimate.count for stage, estimate in calls.items()} == {
        "clean": 500,
        "generate": 100,
        "rewrite": 100,
        "annotate": 1000,
    }
    difference = calls["annotate"].input_tokens - calls["rewrite"].input_tokens
    assert difference == pytest.approx(2000 / 4 + 380 - 220)
    assert "clean" not in estimated_calls(SIZES, clean=False)


def test_the_estimate_for_the_papers_annotation_has_the_papers_tokens():
    """8.09 M pairs took 8-12 G input and 3-5 G output tokens."""
    paper = CorpusSizes(eligible=120_000, sources=81_659, candidates=99, document_chars=2400, source_chars=1500)
    annotate = estimated_calls(paper, clean=False)["annotate"]
    assert 8e9 < annotate.count * annotate.input_tokens < 12e9
    assert 3e9 < annotate.count * annotate.output_tokens < 5e9


def test_a_larger_model_takes_longer_and_two_gpus_share_it():
    small, large, shared = (
        estimated_throughput(name, "H100", gpus) for name, gpus in (("x-4B", 1), ("x-8B", 1), ("x-8B", 2))
    )
    assert small.output_tokens > large.output_tokens
    assert shared.input_tokens == pytest.approx(2 * large.input_tokens)
    assert estimated_throughput("unknown", "H100", 1) is None


def test_a_measurement_takes_precedence_over_an_estimate():
    calls, throughput = Calls(1000, 800.0, 100.0), Throughput(8000, 1000, "t")
    estimated = stage_cost("annotate", "m", calls, throughput, None, 1)
    assert estimated.gpu_hours == pytest.approx((100 + 100) / 3600)
    assert estimated.basis == "typical lengths, t"
    sample = {"calls": 20, "input_tokens": 900.0, "output_tokens": 50.0, "rows_per_second": 5.0}
    measured = stage_cost("annotate", "m", calls, throughput, sample, 2)
    assert (measured.input_tokens, measured.output_tokens) == (900_000, 50_000)
    assert measured.gpu_hours == pytest.approx(1000 / 5 * 2 / 3600)
    assert "20 calls" in measured.basis
    assert total_hours([estimated, measured]) == pytest.approx(estimated.gpu_hours + measured.gpu_hours)


def test_an_engine_without_gpus_has_no_gpu_hours():
    cost = stage_cost("rewrite", "m", Calls(10, 5.0, 5.0), None, None, 0)
    assert cost.gpu_hours is None
    assert total_hours([cost]) is None


def test_hours_of_all_stages_are_unknown_when_those_of_one_are():
    known = stage_cost("annotate", "m", Calls(10, 5.0, 5.0), Throughput(1, 1, "t"), None, 1)
    unknown = stage_cost("rewrite", "m", Calls(10, 5.0, 5.0), None, None, 1)
    assert total_hours([known, unknown]) is None
