"""What ``serve run serve/local.yaml`` imports: ``serve.app:build`` with the arguments of ``ServeArgs``."""

from reasonembed.distributed.serving import ServeArgs, build

__all__ = ["ServeArgs", "build"]
