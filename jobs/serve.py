"""Serves a finished run's index over HTTP: ``python jobs/serve.py CONFIG [section.key=value ...]``."""

from reasonembed.cli.jobs import run_service

if __name__ == "__main__":
    run_service()
