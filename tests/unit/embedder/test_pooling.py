import pytest
import torch

from reasonembed.embedder.pooling import pool


@pytest.mark.parametrize("mode", ["mean", "cls", "lasttoken"])
def test_padding_on_either_side_changes_nothing(mode):
    states = torch.randn(1, 3, 4)
    unpadded = pool(states, torch.ones(1, 3), mode)
    for left, right in ((2, 0), (0, 2)):
        padded = torch.cat([torch.randn(1, left, 4), states, torch.randn(1, right, 4)], dim=1)
        mask = torch.tensor([[0] * left + [1] * 3 + [0] * right])
        assert torch.allclose(pool(padded, mask, mode), unpadded, atol=1e-6)
    expected = {"mean": states.mean(1), "cls": states[:, 0], "lasttoken": states[:, -1]}[mode]
    assert torch.allclose(unpadded, torch.nn.functional.normalize(expected, dim=-1), atol=1e-6)
