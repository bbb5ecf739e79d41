"""What holds the weights in training and moves them: DeepSpeed, or plain torch."""

from reasonembed.redapter.engines.factory import create_engine
from reasonembed.redapter.engines.training_engine import TrainingEngine

__all__ = ["TrainingEngine", "create_engine"]
