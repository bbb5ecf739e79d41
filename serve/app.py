"""What ``serve run serve/local.yaml`` imports: ``serve.app:build`` with the arguments of ``ServeArgs``."""

from reasonembed.distributed.serve.application import build
from reasonembed.distributed.serve.replicas import ServeArgs

__all__ = ["ServeArgs", "build"]
