"""Ray Train around the loop of ``redapter``."""
