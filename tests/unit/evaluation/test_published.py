import numpy as np
import pytest

from reasonembed.evaluation.published import published_results


def test_published_results_are_shown_for_the_same_benchmark_tasks_and_queries_only():
    results = published_results("bright:xlangai/BRIGHT", ["pony"], "original")
    assert [s["tasks"]["pony"] for s in results.systems if s["name"] == "BM25"] == [7.9]
    assert published_results("bright:x", ["pony"], "gpt4_reason") is None
    assert published_results("bright:x", ["another"], "original") is None
    assert published_results("bright-long:x", ["pony"], "original") is None


@pytest.mark.parametrize(("benchmark", "task"), [("bright:xlangai/BRIGHT", "pony"), ("r2med:R2MED", "Biology")])
def test_published_averages_are_those_of_their_tasks(benchmark, task):
    for system in published_results(benchmark, [task], "original").systems:
        assert np.mean(list(system["tasks"].values())) == pytest.approx(system["average"], abs=0.06)
