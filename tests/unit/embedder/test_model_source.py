import json

import pytest

from reasonembed.embedder.model import Embedder
from reasonembed.embedder.model_source import model_fingerprint
from reasonembed.errors import UserError


def test_the_fingerprint_depends_on_the_content(tiny_model, tmp_path):
    embedder = Embedder.load(str(tiny_model))
    embedder.save(tmp_path / "m", max_tokens=32)
    first = model_fingerprint(str(tmp_path / "m"))
    assert model_fingerprint(str(tmp_path / "m")) == first
    config = tmp_path / "m" / "1_Pooling" / "config.json"
    flags = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    config.write_text(json.dumps(json.loads(config.read_text()) | flags))
    assert model_fingerprint(str(tmp_path / "m")) != first


@pytest.mark.parametrize("name", ["package:no_such_module", "./nowhere", "/nowhere/at/all", "nobody/nothing"])
def test_the_error_for_a_missing_model_is_one_line_with_its_name(name):
    with pytest.raises(UserError) as caught:
        Embedder.load(name)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)
