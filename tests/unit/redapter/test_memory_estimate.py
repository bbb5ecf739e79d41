import pytest

from reasonembed.config import Encode, Train
from reasonembed.errors import UserError
from reasonembed.redapter.memory_estimate import ModelShape, memory_per_gpu, model_shape

SHAPE = ModelShape(parameters=1000, trained=100, layers=2, hidden=8, feed_forward=16, key_values=4)


def train(**values):
    return Train(**{"workers": 4, "batch_size": 8, "group_size": 4, "max_tokens": 10, "zero_stage": 0} | values)


def test_zero_shards_optimiser_state_then_gradients_then_weights():
    estimates = [memory_per_gpu(SHAPE, train(zero_stage=stage)) for stage in (0, 1, 2, 3)]
    assert [estimate.optimizer for estimate in estimates] == [800, 200, 200, 200]
    assert [estimate.gradients for estimate in estimates] == [400, 400, 100, 100]
    assert [estimate.weights for estimate in estimates] == [4000, 4000, 4000, 1000]
    assert memory_per_gpu(SHAPE, train(dtype="bfloat16")).optimizer == 100 * 12


def test_activations_depend_on_grad_cache_and_gradient_checkpointing():
    tokens, layer_bytes = 2 * 5 * 10, 4 * (6 * 8 + 4 + 4 * 16)
    assert memory_per_gpu(SHAPE, train()).activations == tokens * 2 * layer_bytes
    assert memory_per_gpu(SHAPE, train(grad_cache=True, batch_tokens=20)).activations == 20 * 2 * layer_bytes
    checkpointed = memory_per_gpu(SHAPE, train(gradient_checkpointing=True, batch_tokens=20)).activations
    assert checkpointed == tokens * 2 * 8 * 4 + 20 * layer_bytes


def test_the_shape_is_read_from_a_models_folder(tiny_model):
    shape = model_shape(train(base_model=str(tiny_model)), Encode())
    assert (shape.layers, shape.hidden, shape.feed_forward, shape.key_values) == (2, 32, 64, 64)
    assert shape.parameters == shape.trained


def test_an_unknown_model_is_an_error():
    with pytest.raises(UserError, match="nobody/nothing"):
        model_shape(train(base_model="nobody/nothing"), Encode())
