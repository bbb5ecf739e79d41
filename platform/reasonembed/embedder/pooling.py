"""Pooling: the token states of a text become one unit vector."""

import torch
import torch.nn.functional as F

MODES = ("mean", "cls", "lasttoken")


def pool(states: torch.Tensor, mask: torch.Tensor, mode: str) -> torch.Tensor:
    """Pools token states into L2-normalised vectors.

    Args:
        states: (batch, tokens, dim), the last hidden layer.
        mask: (batch, tokens), 1 for real tokens; the padding may be on either side.
        mode: one of ``MODES``.

    Returns:
        (batch, dim) unit vectors, in the number format of ``states``.
    """
    if mode == "mean":
        weights = mask.unsqueeze(-1).to(states.dtype)
        vectors = (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
    else:
        # The first or last real token; some tokenizers pad on the left, others on the right.
        positions = torch.arange(mask.shape[1], device=mask.device)
        if mode == "cls":
            index = torch.where(mask.bool(), positions, mask.shape[1]).argmin(1)
        else:
            index = torch.where(mask.bool(), positions, -1).argmax(1)
        vectors = states[torch.arange(len(states), device=states.device), index]
    return F.normalize(vectors, dim=-1)
