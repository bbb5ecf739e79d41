"""The paper's configs pass a dry run without weights, and the arithmetic behind it."""

import pytest

from reasonembed.config import Encode, Train, load_config
from reasonembed.errors import UserError
from reasonembed.pipeline.dry_run import dry_run
from reasonembed.redapter.memory_estimate import Shape, memory_per_gpu, model_shape

SHAPE = Shape(parameters=1000, trained=100, layers=2, hidden=8, feed_forward=16, key_values=4)


def train(**values):
    return Train(**{"workers": 4, "batch_size": 8, "group_size": 4, "max_tokens": 10, "zero_stage": 0} | values)


def test_zero_spreads_optimiser_then_gradients_then_weights():
    found = {stage: memory_per_gpu(SHAPE, train(zero_stage=stage)) for stage in (0, 1, 2, 3)}
    assert [found[s].optimizer for s in found] == [800, 200, 200, 200]
    assert [found[s].gradients for s in found] == [400, 400, 100, 100]
    assert [found[s].weights for s in found] == [4000, 4000, 4000, 1000]
    assert memory_per_gpu(SHAPE, train(dtype="bfloat16")).optimizer == 100 * 12


def test_activations_follow_what_is_kept():
    whole = memory_per_gpu(SHAPE, train()).activations
    tokens, layer = 2 * 5 * 10, 4 * (6 * 8 + 4 + 4 * 16)
    assert whole == tokens * 2 * layer
    assert memory_per_gpu(SHAPE, train(grad_cache=True, batch_tokens=20)).activations == 20 * 2 * layer
    checkpointed = memory_per_gpu(SHAPE, train(gradient_checkpointing=True, batch_tokens=20)).activations
    assert checkpointed == tokens * 2 * 8 * 4 + 20 * layer


@pytest.mark.parametrize(
    ("name", "billions", "trained"),
    [("qwen3-4b", 4.02, 66_060_288), ("qwen3-8b", 7.57, 87_293_952), ("llama-3.1-8b", 7.50, 83_886_080)],
)
def test_the_papers_configs_pass_a_dry_run(repository, name, billions, trained):
    config = load_config(repository / "jobs" / "configs" / f"reasonembed-{name}.yaml", ["train.dry_run=true"], env={})
    model, figures = dry_run(config)
    assert model == config.train.base_model
    assert figures["trained_parameters"] == trained
    # Published sizes, less the output layer that an embedder does not have.
    assert (figures["parameters"] - trained) / 1e9 == pytest.approx(billions, abs=0.01)
    assert figures["steps"] == 120_000 // 64
    assert figures["texts"] == 120_000 * 18
    assert 10e9 < figures["memory_per_gpu"]["total"] < 80e9


def test_a_folder_tells_its_own_shape_and_bad_names_are_one_line(tiny_model):
    shape = model_shape(train(base_model=str(tiny_model)), Encode())
    assert (shape.layers, shape.hidden, shape.feed_forward, shape.key_values) == (2, 32, 64, 64)
    assert shape.parameters == shape.trained
    with pytest.raises(UserError, match="nobody/nothing"):
        model_shape(train(base_model="nobody/nothing"), Encode())
