"""reasonembed: makes training data for text embedders for reasoning-intensive retrieval, trains, evaluates and serves
them, on Ray."""

__version__ = "0.1.0"
