import pytest

from reasonembed.errors import UserError
from reasonembed.serving.api_keys import ApiKeys, read_keys


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
