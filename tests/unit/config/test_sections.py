import pytest

from reasonembed.config import Config, Sampling


def test_every_setting_is_documented():
    undocumented = {
        f"{name}.{key}"
        for name, section in Config.model_fields.items()
        for key, field in section.annotation.model_fields.items()
        # A stage of ReMixer may have its own default of a field that Sampling documents.
        if not field.description and not (key in Sampling.model_fields and issubclass(section.annotation, Sampling))
    }
    assert undocumented == set()


@pytest.mark.parametrize("stage", ["generate", "rewrite", "annotate"])
def test_every_llm_stage_needs_a_model(stage):
    own_models = {name: {"model": "m"} for name in ("generate", "rewrite", "annotate") if name != stage}
    with pytest.raises(ValueError, match=r"llm\.model is needed"):
        Config.model_validate({"llm": {"engine": "vllm"}, **own_models})
    Config.model_validate({"llm": {"engine": "vllm"}, **own_models, stage: {"model": "m"}})
    Config.model_validate({"llm": {"engine": "vllm", "model": "m"}})


def test_a_fusion_has_a_weight_for_each_system():
    evaluate = {"model": ["bm25", "base"], "fusion_weights": [1.0]}
    with pytest.raises(ValueError, match="1 numbers for the 2 systems"):
        Config.model_validate({"evaluate": evaluate})
    config = Config.model_validate({"evaluate": evaluate | {"fusion_weights": [1.0, 2.0]}})
    assert config.evaluate.systems == ("bm25", "base")
    assert Config().evaluate.systems == ("base",)


def test_qrels_need_a_run():
    with pytest.raises(ValueError, match=r"evaluate\.qrels needs evaluate\.run"):
        Config.model_validate({"evaluate": {"qrels": "q.tsv"}})


def test_a_task_may_have_a_shape_of_its_own():
    assemble = Config.model_validate({"assemble": {"group_size": 4, "batch_size": 3, "shapes": {"a": [2, 6]}}}).assemble
    assert (assemble.shape("a"), assemble.shape("b")) == ((2, 6), (4, 3))
