import json

import pytest

from reasonembed.errors import UserError
from reasonembed.serving.index_pointer import candidate_indexes, latest_index


def write_index(root, name, finished):
    folder = root / "index" / name
    folder.mkdir(parents=True)
    record = {"stage": "index", "fingerprint": name, "finished": finished, "figures": {}, "files": []}
    (folder / "_artifact.json").write_text(json.dumps(record))
    return str(folder)


def point_to(root, uri):
    (root / "index" / "latest").write_text(json.dumps({"version": "x", "uri": uri}))


def test_a_gateway_starts_with_the_latest_index_and_then_the_newest_of_the_others(tmp_path):
    old, newest, latest = (
        write_index(tmp_path, name, f"2026-11-2{day}T10:00:00+0000") for name, day in [("a", 1), ("b", 3), ("c", 2)]
    )
    point_to(tmp_path, latest)
    assert latest_index(str(tmp_path)) == latest
    assert candidate_indexes(None, str(tmp_path)) == [latest, newest, old]
    assert candidate_indexes("/elsewhere/index", str(tmp_path)) == ["/elsewhere/index"]


@pytest.mark.parametrize("content", ["{half of a poin", "{}", "[]"])
def test_a_damaged_pointer_is_an_error(tmp_path, content):
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "latest").write_text(content)
    with pytest.raises(UserError, match="is damaged"):
        latest_index(str(tmp_path))


def test_a_run_without_an_index_is_an_error(tmp_path):
    with pytest.raises(UserError, match="holds no finished index"):
        candidate_indexes(None, str(tmp_path))
