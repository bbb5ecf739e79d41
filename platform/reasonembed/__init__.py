"""reasonembed: make, train, serve and judge text embedders for reasoning-intensive retrieval, on Ray."""

__version__ = "0.1.0"
