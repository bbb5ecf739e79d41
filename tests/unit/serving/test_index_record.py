import pytest
from small_indexes import index_record, write_record

from reasonembed.errors import UserError
from reasonembed.serving.index_record import check_index_record, finished_at
from reasonembed.serving.index_shards import load_index_artifact


def load(tmp_path, record):
    return load_index_artifact(write_record(tmp_path / "v1", record))


def changed(path, value):
    """Returns a record in which one field, named with dots, has another value; None removes it."""
    record = index_record("v1")
    *parents, name = path.split(".")
    target = record
    for parent in parents:
        target = target[parent]
    target[name] = value
    if value is None:
        del target[name]
    return record


def test_a_valid_record_is_accepted(tmp_path):
    index = load(tmp_path, index_record("v1"))
    assert index.fingerprint == "v1"
    assert finished_at(index).isoformat() == "2026-11-21T10:00:00+00:00"
    with_folder = changed("inputs.model", {"uri": "/runs/train/af1", "fingerprint": "af1"})
    check_index_record(load(tmp_path, with_folder))


@pytest.mark.parametrize("record", [{}, [], None, 3, "index"])
def test_a_record_of_another_type_is_an_error_of_one_line(tmp_path, record):
    with pytest.raises(UserError, match="is damaged") as error:
        load(tmp_path, record)
    assert str(tmp_path / "v1") in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("finished", None),
        ("finished", "yesterday"),
        ("fingerprint", ""),
        ("config.model", None),
        ("config.encode", {"max_tokens": "many"}),
        ("config.index", {}),
        ("config.index.kind", "tree"),
        ("inputs.model", None),
        ("inputs.model", {}),
        ("figures.rows", "3"),
        ("figures.rows", 4),
        ("figures.tasks", "a"),
        ("figures.dimension", 0),
        ("figures.shard_rows", [1]),
        ("figures.shard_rows", [3, 0]),
    ],
)
def test_a_wrong_field_is_an_error_of_one_line(tmp_path, path, value):
    with pytest.raises(UserError, match=r"damaged|another version") as error:
        load(tmp_path, changed(path, value))
    assert path.split(".")[0] in str(error.value) or "add up" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_record_of_an_earlier_layout_is_an_error_that_says_so(tmp_path):
    with pytest.raises(UserError, match=r"earlier version \(no shard_rows\)"):
        load(tmp_path, changed("figures.shard_rows", None))


def test_the_artifact_of_another_stage_is_no_index(tmp_path):
    with pytest.raises(UserError, match="no finished index"):
        load(tmp_path, changed("stage", "train"))
    with pytest.raises(UserError, match="no finished index"):
        load_index_artifact(str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    "path", ["../x", "/etc/passwd", "shard-00000/../../x", "shard-00000//x", "s3://other/x", ".", "", "shard-00000/./x"]
)
def test_a_file_outside_the_folder_is_an_error(tmp_path, path):
    entry = {"path": path, "size": 1, "sha256": "0"}
    with pytest.raises(UserError, match="damaged"):
        load(tmp_path, changed("files", [entry]))


@pytest.mark.parametrize("attempt", ["../other", "a/b", "..", ".hidden", ""])
def test_a_folder_of_data_outside_the_folder_of_the_record_is_an_error(tmp_path, attempt):
    with pytest.raises(UserError):
        load(tmp_path, changed("attempt", attempt))
