import pytest

from reasonembed.pipeline.cost import (
    Sizes,
    Throughput,
    billions,
    estimated_calls,
    estimated_throughput,
    plan_stage,
    total_hours,
)

SIZES = Sizes(eligible=500, sources=100, keep=10, document_chars=2000, source_chars=1000)


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
def test_the_size_is_in_the_name(name, size):
    assert billions(name) == size


def test_calls_follow_from_the_corpus():
    calls = estimated_calls(SIZES, clean=True)
    assert {stage: count for stage, (count, _, _) in calls.items()} == {
        "clean": 500,
        "generate": 100,
        "rewrite": 100,
        "annotate": 1000,
    }
    assert calls["annotate"][1] - calls["rewrite"][1] == pytest.approx(2000 / 4 + 380 - 220)
    assert "clean" not in estimated_calls(SIZES, clean=False)


def test_the_papers_annotation_comes_out_at_the_papers_tokens():
    """8.09 M pairs took 8-12 G input and 3-5 G output tokens."""
    paper = Sizes(eligible=120_000, sources=81_659, keep=99, document_chars=2400, source_chars=1500)
    count, tokens_in, tokens_out = estimated_calls(paper, clean=False)["annotate"]
    assert 8e9 < count * tokens_in < 12e9
    assert 3e9 < count * tokens_out < 5e9


def test_a_larger_model_takes_longer_and_two_gpus_share_it():
    small, large, shared = (
        estimated_throughput(*of) for of in (("x-4B", "H100", 1), ("x-8B", "H100", 1), ("x-8B", "H100", 2))
    )
    assert small.output_tokens > large.output_tokens
    assert shared.input_tokens == pytest.approx(2 * large.input_tokens)
    assert estimated_throughput("unknown", "H100", 1) is None


def test_a_measurement_stands_before_a_guess():
    guessed = plan_stage("annotate", "m", (1000, 800.0, 100.0), Throughput(8000, 1000, "t"), None, 1)
    assert guessed.gpu_hours == pytest.approx((100 + 100) / 3600)
    measured = plan_stage(
        "annotate",
        "m",
        (1000, 800.0, 100.0),
        Throughput(8000, 1000, "t"),
        {"calls": 20, "input_tokens": 900.0, "output_tokens": 50.0, "rows_per_second": 5.0},
        2,
    )
    assert (measured.input_tokens, measured.output_tokens) == (900_000, 50_000)
    assert measured.gpu_hours == pytest.approx(1000 / 5 * 2 / 3600)
    assert "20 calls" in measured.basis
    assert total_hours([guessed, measured]) == pytest.approx(guessed.gpu_hours + measured.gpu_hours)


def test_an_engine_without_gpus_has_no_gpu_hours():
    plan = plan_stage("rewrite", "m", (10, 5.0, 5.0), None, None, 0)
    assert plan.gpu_hours is None
    assert total_hours([plan]) is None
