import pytest

from reasonembed.config import load_config
from reasonembed.pipeline.dry_run import dry_run


@pytest.mark.parametrize(
    ("name", "billions", "trained"),
    [("qwen3-4b", 4.02, 66_060_288), ("qwen3-8b", 7.57, 87_293_952), ("llama-3.1-8b", 7.50, 83_886_080)],
)
def test_the_papers_configs_pass_a_dry_run_without_weights(repository, name, billions, trained):
    config = load_config(repository / "jobs" / "configs" / f"reasonembed-{name}.yaml", ["train.dry_run=true"], env={})
    model, figures = dry_run(config)
    assert model == config.train.base_model
    assert figures["trained_parameters"] == trained
    # Published sizes, less the output layer, which an embedder does not have.
    assert (figures["parameters"] - trained) / 1e9 == pytest.approx(billions, abs=0.01)
    assert figures["steps"] == 120_000 // 64
    assert figures["texts"] == 120_000 * 18
    assert 10e9 < figures["memory_per_gpu"]["total"] < 80e9
