import torch

from reasonembed.config import Train
from reasonembed.embedder.model import Embedder
from reasonembed.redapter.engines.factory import create_engine, prepare_model
from reasonembed.redapter.engines.torch_engine import TorchEngine


def train(**values):
    return Train(**{"workers": 1, "engine": "torch", "zero_stage": 0, "batch_size": 2} | values)


def dropout_probabilities(model):
    return {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}


def test_dropout_is_turned_off_except_in_adapters(tiny_model):
    model = Embedder.load(str(tiny_model))
    assert dropout_probabilities(model) == {0.1}
    prepare_model(model, train())
    assert dropout_probabilities(model) == {0.0}
    prepare_model(model, train(lora_rank=2, lora_dropout=0.2, lora_targets=["query"]))
    assert dropout_probabilities(model) == {0.0, 0.2}


def test_gradient_checkpointing_is_turned_on_where_the_settings_say_so(tiny_model):
    model = Embedder.load(str(tiny_model))
    prepare_model(model, train())
    assert not model.backbone.is_gradient_checkpointing
    prepare_model(model, train(gradient_checkpointing=True))
    assert model.backbone.is_gradient_checkpointing


def test_the_engine_is_the_one_of_the_settings_and_in_training_mode(tiny_model):
    engine = create_engine(Embedder.load(str(tiny_model)), train())
    assert isinstance(engine, TorchEngine)
    assert engine.model.training
