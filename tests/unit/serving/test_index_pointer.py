import json
import logging

import pytest
from small_indexes import index_record, write_record

from reasonembed.errors import UserError
from reasonembed.serving.index_pointer import candidate_indexes, latest_index


def write_named(root, name, finished="2026-11-21T10:00:00+0000"):
    return write_record(root / "index" / name, index_record(name, finished))


def point_to(root, uri):
    (root / "index" / "latest").write_text(json.dumps({"version": "x", "uri": uri}))


def test_a_gateway_starts_with_the_latest_index_and_then_the_newest_of_the_others(tmp_path):
    old, newest, latest = (
        write_named(tmp_path, name, f"2026-11-2{day}T10:00:00+0000") for name, day in [("a", 1), ("b", 3), ("c", 2)]
    )
    point_to(tmp_path, latest)
    assert latest_index(str(tmp_path)) == latest
    assert candidate_indexes(None, str(tmp_path)) == [latest, newest, old]
    assert candidate_indexes("/elsewhere/index", str(tmp_path)) == ["/elsewhere/index"]


def test_times_in_different_zones_are_compared(tmp_path):
    earlier = write_named(tmp_path, "a", "2026-11-21T10:00:00+0200")
    later = write_named(tmp_path, "b", "2026-11-21T09:00:00Z")
    point_to(tmp_path, "/elsewhere")
    assert candidate_indexes(None, str(tmp_path)) == ["/elsewhere", later, earlier]


@pytest.mark.parametrize(
    "damaged",
    [
        {},
        [],
        None,
        "text",
        {"stage": "index"},
        index_record("d", finished="yesterday"),
        index_record("d") | {"config": 1},
    ],
)
def test_a_damaged_record_of_another_index_does_not_stop_a_gateway(tmp_path, damaged, caplog):
    latest, old = write_named(tmp_path, "a"), write_named(tmp_path, "b")
    write_record(tmp_path / "index" / "d", damaged)
    point_to(tmp_path, latest)
    with caplog.at_level(logging.WARNING):
        assert candidate_indexes(None, str(tmp_path)) == [latest, old]
    [warning] = caplog.messages
    assert warning.startswith("skipped: ")
    assert str(tmp_path / "index" / "d") in warning


def test_a_record_without_a_time_does_not_stop_a_gateway(tmp_path):
    latest = write_named(tmp_path, "a")
    record = index_record("d")
    del record["finished"]
    write_record(tmp_path / "index" / "d", record)
    point_to(tmp_path, latest)
    assert candidate_indexes(None, str(tmp_path)) == [latest]


@pytest.mark.parametrize("content", ["{half of a poin", "{}", "[]"])
def test_a_damaged_pointer_is_an_error(tmp_path, content):
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "latest").write_text(content)
    with pytest.raises(UserError, match="is damaged"):
        latest_index(str(tmp_path))


def test_a_run_without_an_index_is_an_error(tmp_path):
    with pytest.raises(UserError, match="holds no finished index"):
        candidate_indexes(None, str(tmp_path))
