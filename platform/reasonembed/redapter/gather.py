"""Values of all ranks, with the gradient going back to the rank that each row came from."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if world_size() > 1 else 0


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
        ctx.counts = counts
        # All ranks must bring as many rows to the exchange; the filling is cut off again.
        filled = tensor.new_zeros((max(counts), *tensor.shape[1:]))
        filled[: len(tensor)] = tensor
        parts = [torch.empty_like(filled) for _ in counts]
        dist.all_gather(parts, filled)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        # Every rank's loss touched every row, so the gradient of a row is the sum over ranks.
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        return torch.split(total, list(ctx.counts))[rank()], None


def gather(tensor: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
    """(own rows, ...) to (all rows, ...) in rank order.

    Args:
        tensor: this rank's rows.
        counts: rows of every rank.
    """
    return tensor if world_size() == 1 else _Gather.apply(tensor, counts)  # type: ignore[no-any-return, no-untyped-call]


def total(tensor: torch.Tensor) -> torch.Tensor:
    """Sum over all ranks, without gradient."""
    value = tensor.detach().clone()
    if world_size() > 1:
        dist.all_reduce(value)
    return value


def largest(value: int, device: torch.device | str = "cpu") -> int:
    """The largest of all ranks' values."""
    if world_size() == 1:
        return value
    found = torch.tensor(value, device=device)
    dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return int(found)
