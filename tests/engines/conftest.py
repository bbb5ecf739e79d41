import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from parts import write_config


@dataclass(frozen=True)
class Finished:
    """A pipeline run that the tests of this folder look at."""

    config: Path
    root: Path
    result: dict
    summary: dict
    log: str


@pytest.fixture(scope="session")
def finished(tmp_path_factory, tiny_corpus, tiny_model, run_job) -> Finished:
    """The whole path on the tiny corpus: real Ray Data, Ray Train with DeepSpeed, FAISS."""
    folder = tmp_path_factory.mktemp("pipeline")
    root = folder / "runs"
    config = write_config(folder / "config.yaml", str(root), tiny_corpus, tiny_model)
    done = run_job("pipeline", config)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    return Finished(config, root, result, json.loads((root / "summary.json").read_text()), done.stderr)
