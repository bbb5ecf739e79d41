"""The application for ``serve run`` and ``serve deploy``: ``import_path: serve.app:build``, with ``ServeArgs``."""

from reasonembed.distributed.serve.application import build
from reasonembed.distributed.serve.application_args import ServeArgs

__all__ = ["ServeArgs", "build"]
