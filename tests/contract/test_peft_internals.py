"""What ``reasonembed.embedder.peft_internals`` relies on in PEFT, checked for the pinned version."""

import copy
from importlib.metadata import requires, version

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModel

from reasonembed.embedder.peft_internals import merged_state

PIN = "peft==0.21.2"


def test_the_pin_is_the_version_that_was_checked():
    assert PIN in requires("reasonembed")
    assert f"peft=={version('peft')}" == PIN


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_merged_state_equals_that_of_pefts_own_merge(tiny_model, dtype):
    plain = AutoModel.from_pretrained(tiny_model, dtype=dtype, add_pooling_layer=False)
    plain_state = {name: value.clone() for name, value in plain.state_dict().items()}
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["query", "dense"], task_type="FEATURE_EXTRACTION")
    backbone = get_peft_model(plain, config).to(dtype)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.3)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}

    state = merged_state(backbone)

    expected = copy.deepcopy(backbone).merge_and_unload().state_dict()
    assert set(state) == set(expected) == set(plain_state)
    assert all(torch.equal(state[name], value) for name, value in expected.items())
    # In each of the two layers: query, and dense of attention, of the feed-forward network and of its output.
    assert sum(not torch.equal(state[name], value) for name, value in plain_state.items()) == 8
    after = backbone.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
