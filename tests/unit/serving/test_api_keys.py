import logging
import os

import pytest

from reasonembed.errors import UserError
from reasonembed.serving.api_keys import ApiKeys, read_keys

COMMENT = "# the key of ann: 0123456789abcdef"
ANN, BOB = "ann: 0123456789abcdef\n", "bob: fedcba9876543210\n"


def test_a_key_gives_the_name_of_its_holder():
    keys = ApiKeys({"ann": "k" * 20, "bob": "b" * 20})
    assert keys.holder("k" * 20) == "ann"
    assert keys.holder("b" * 20) == "bob"
    assert keys.holder("k" * 19) is None
    assert keys.holder("") is None
    assert "kkk" not in str(vars(keys))
    assert keys
    assert not ApiKeys({})


def test_keys_are_read_from_a_file_or_the_environment(tmp_path):
    file = tmp_path / "keys"
    file.write_text("# people\nann: 0123456789abcdef\n\nbob: with:colons:in:the:key\n")
    assert read_keys(str(file)).holder("with:colons:in:the:key") == "bob"
    assert read_keys(None, {"SERVE_API_KEYS": "ann: 0123456789abcdef"}).holder("0123456789abcdef") == "ann"
    assert not read_keys(None, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ann 0123456789abcdef", "line 1: write `name: key`"),
        ("ann: short", "line 1: the key of 'ann' is shorter than 16"),
        ("ann: 0123456789abcdef\nann: 0123456789abcdeg", "line 2: 'ann' already has a key"),
        ("# nobody\n", "holds no key"),
        (f"{COMMENT}\n", "holds no key"),
        (f"\ufeff{COMMENT}\n", "holds no key"),
        (f"  \t{COMMENT}\n", "holds no key"),
        (f"\u200b{COMMENT}\n", "line 1: contains an invisible character"),
        (f"{ANN}\ufeff{COMMENT}\n", "line 2: contains an invisible character"),
        ("ann: 0123456789\u200babcdef", "line 1: contains an invisible character"),
    ],
)
def test_the_error_about_a_wrong_key_file_does_not_show_the_key(tmp_path, text, message):
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_keys(str(file))
    assert "0123456789" not in str(error.value)


def test_a_missing_key_file_is_an_error(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_keys(str(tmp_path / "none"))


@pytest.mark.parametrize("separator", ["\u2028", "\u0085", "\x0b", "\x0c"])
def test_a_line_ends_only_where_editors_end_it(tmp_path, separator):
    file = tmp_path / "keys"
    file.write_text(f"# ann had{separator}old: fedcba9876543210\r\n{ANN}", encoding="utf-8", newline="")
    keys = read_keys(str(file))
    assert keys.holder("0123456789abcdef") == "ann"
    assert keys.holder("fedcba9876543210") is None


def test_a_file_with_a_byte_order_mark_has_the_same_keys(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"{COMMENT}\n{ANN}", encoding="utf-8-sig")
    keys = read_keys(str(file))
    assert [keys.holder(key) for key in ("0123456789abcdef", "0123456789abcde")] == ["ann", None]
    assert len(vars(keys)["_hashes"]) == 1
    assert read_keys(None, {"SERVE_API_KEYS": f"\ufeff{ANN}"}).holder("0123456789abcdef") == "ann"


def test_a_file_in_another_encoding_is_an_error(tmp_path):
    file = tmp_path / "keys"
    file.write_text(ANN, encoding="utf-16")
    with pytest.raises(UserError, match="not a text in UTF-8"):
        read_keys(str(file))


class KeysFile:
    """A file with keys, whose changes have distinct times, and the keys that were read from it."""

    def __init__(self, path, text):
        self.path, self.time = path, 1_000_000_000
        self.write(text)
        self.keys = read_keys(str(path))

    def write(self, text):
        self.path.write_text(text)
        self.time += 10
        os.utime(self.path, (self.time, self.time))

    def reload(self):
        """Reloads the keys twice, and returns the holders of the two keys of these tests."""
        self.keys.reload()
        self.keys.reload()
        return [self.keys.holder("0123456789abcdef"), self.keys.holder("fedcba9876543210")]


@pytest.fixture
def keys_file(tmp_path):
    return KeysFile(tmp_path / "keys", ANN)


def test_keys_are_replaced_when_the_file_changes(keys_file, caplog):
    assert keys_file.reload() == ["ann", None]
    assert not caplog.messages
    keys_file.write(BOB)
    with caplog.at_level(logging.WARNING):
        assert keys_file.reload() == [None, "bob"]
    assert caplog.messages == [f"serve.keys_file {keys_file.path} has changed and now holds 1 keys"]
    keys_file.write(ANN + BOB)
    assert keys_file.reload() == ["ann", "bob"]


def test_a_file_behind_a_link_is_reloaded_when_the_link_changes(tmp_path):
    """As Kubernetes replaces a mounted secret."""
    for folder, text in (("old", ANN), ("new", BOB + "# longer")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "keys").write_text(text)
    link = tmp_path / "data"
    link.symlink_to("old")
    keys = read_keys(str(link / "keys"))
    link.unlink()
    link.symlink_to("new")
    keys.reload()
    assert keys.holder("fedcba9876543210") == "bob"


@pytest.mark.parametrize("text", ["", "# nobody\n", "ann: short\n", "no colon\n", ANN + ANN])
def test_a_broken_new_file_leaves_the_keys_and_is_logged_once(keys_file, caplog, text):
    keys_file.write(text)
    assert keys_file.reload() == ["ann", None]
    [message] = caplog.messages
    assert message.endswith("; the current keys stay")
    assert "0123456789" not in message
    keys_file.write(BOB)
    assert keys_file.reload() == [None, "bob"]
    assert len(caplog.messages) == 2


def test_a_file_that_was_removed_leaves_the_keys(keys_file, caplog):
    keys_file.path.unlink()
    assert keys_file.reload() == ["ann", None]
    assert caplog.messages == [f"serve.keys_file {keys_file.path} does not exist; the current keys stay"]
    keys_file.write(ANN)
    assert keys_file.reload() == ["ann", None]


def test_keys_of_the_environment_do_not_change():
    keys = read_keys(None, {"SERVE_API_KEYS": ANN})
    keys.reload()
    assert keys.holder("0123456789abcdef") == "ann"
