"""Values of all ranks, with the gradient going back to the rank that each row came from."""

from typing import Any

import torch
import torch.distributed as dist


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if world_size() > 1 else 0


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        ctx.rows = len(tensor)
        parts = [torch.empty_like(tensor) for _ in range(world_size())]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        # Every rank's loss touched every row, so the gradient of a row is the sum over ranks.
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        return total[rank() * ctx.rows : (rank() + 1) * ctx.rows]


def gather(tensor: torch.Tensor) -> torch.Tensor:
    """(rows, ...) of this rank to (world × rows, ...) in rank order; every rank must bring as many rows."""
    return tensor if world_size() == 1 else _Gather.apply(tensor)  # type: ignore[no-any-return, no-untyped-call]


def total(tensor: torch.Tensor) -> torch.Tensor:
    """Sum over all ranks, without gradient."""
    value = tensor.detach().clone()
    if world_size() > 1:
        dist.all_reduce(value)
    return value
