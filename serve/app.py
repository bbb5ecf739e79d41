"""What ``serve run serve/local.yaml`` imports: ``serve.app:build`` with the arguments of ``ServeArgs``."""

from reasonembed.distributed.serving import build
from reasonembed.distributed.serving_replicas import ServeArgs

__all__ = ["ServeArgs", "build"]
