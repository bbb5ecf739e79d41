"""Exchange of tensors between ranks; gradients return to the rank that each row came from."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist


def world_size() -> int:
    """Returns the number of ranks; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Returns the number of this rank, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


class _Gather(torch.autograd.Function):
    """All-gather with a backward pass that sums the gradients of all ranks."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
        ctx.counts = counts
        # all_gather needs tensors of the same size on all ranks; the padding rows are cut off again.
        padded = tensor.new_zeros((max(counts), *tensor.shape[1:]))
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        # The loss of every rank depends on every row, so the gradient of a row is the sum over the ranks.
        gradient = gradients[0].contiguous()
        dist.all_reduce(gradient)
        return torch.split(gradient, list(ctx.counts))[rank()], None


def gather(tensor: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
    """Returns the rows of all ranks in rank order, (all rows, ...), with gradient.

    Args:
        tensor: (own rows, ...), the rows of this rank.
        counts: number of rows of every rank.
    """
    return tensor if world_size() == 1 else _Gather.apply(tensor, counts)  # type: ignore[no-any-return, no-untyped-call]


def sum_over_ranks(tensor: torch.Tensor) -> torch.Tensor:
    """Returns the sum of a tensor over all ranks, without gradient."""
    value = tensor.detach().clone()
    if world_size() > 1:
        dist.all_reduce(value)
    return value


def any_rank(flag: bool, device: torch.device | str = "cpu") -> bool:
    """Returns whether the flag is set on any rank; every rank must call it.

    Args:
        flag: of this rank.
        device: the device that the process group exchanges tensors on.
    """
    return bool(max_over_ranks(int(flag), device))


def max_over_ranks(value: int, device: torch.device | str = "cpu") -> int:
    """Returns the largest value of all ranks.

    Args:
        value: the value of this rank.
        device: the device that the process group exchanges tensors on.
    """
    if world_size() == 1:
        return value
    tensor = torch.tensor(value, device=device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return int(tensor)
