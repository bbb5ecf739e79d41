"""What holds the weights in training and moves them: DeepSpeed, or plain torch."""

from reasonembed.redapter.engines.base import Engine
from reasonembed.redapter.engines.start import start_engine

__all__ = ["Engine", "start_engine"]
