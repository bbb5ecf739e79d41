"""Training on Ray Train: workers, checkpoints, progress and logs around the training loop of ``redapter``."""
