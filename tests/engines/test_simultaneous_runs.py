"""Two runs of one configuration at the same time: both succeed, and every artifact is whole and from one of them."""

import json

import pytest
from factories import write_config
from processes import start_job

from reasonembed import artifacts, storage

pytestmark = pytest.mark.extended


def test_two_pipelines_at_once(tmp_path, tiny_corpus, tiny_model):
    root = tmp_path / "runs"
    config = write_config(tmp_path / "config.yaml", str(root), tiny_corpus, tiny_model)
    processes = [start_job("pipeline", config) for _ in range(2)]
    logs = [process.communicate(timeout=900)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], logs
    records = sorted(root.glob("*/*/_artifact.json"))
    assert {path.parts[-3] for path in records} >= {"corpus", "generate", "annotate", "train", "index", "evaluate"}
    for path in records:
        artifact = artifacts.load(str(path.parent))
        for entry in artifact.files:
            assert storage.describe_file(artifact.uri, entry.path) == entry
        folders = storage.list_folders(str(path.parent))
        assert [name for name in folders if not name.startswith(".")] == [artifact.record["attempt"]]
        assert artifacts.SCRATCH not in folders
    waited = [log.count("waiting for process") for log in logs]
    assert sum(waited) > 0
    assert json.loads((root / "summary.json").read_text())["systems"].keys() == {"bm25", "base", "trained"}
