import json

import pytest

from reasonembed.embedder.sentence_transformers_layout import read_layout, write_layout
from reasonembed.errors import UserError


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_pooling_and_prompts_are_read_as_they_were_written(tmp_path, pooling):
    write_layout(tmp_path, 8, pooling, 32, {"query": "Find: "})
    assert read_layout(tmp_path) == (pooling, {"query": "Find: "})


def test_a_plain_transformers_folder_names_no_pooling(tmp_path):
    assert read_layout(tmp_path) == (None, {})


def test_an_unsupported_pooling_is_an_error(tmp_path):
    write_layout(tmp_path, 8, "mean", 32, {})
    flags = {"pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": True}
    path = tmp_path / "1_Pooling" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | flags))
    with pytest.raises(UserError, match="pooling pooling_mode_max_tokens is not supported; choose one of mean, cls"):
        read_layout(tmp_path)
