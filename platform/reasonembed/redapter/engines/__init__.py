"""Training engines, which hold and update the weights: DeepSpeed, or plain torch."""

from reasonembed.redapter.engines.factory import create_engine
from reasonembed.redapter.engines.training_engine import TrainingEngine

__all__ = ["TrainingEngine", "create_engine"]
