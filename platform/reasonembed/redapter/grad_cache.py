"""Texts to vectors in training: passes over texts of like length, and GradCache for batches larger than memory."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from reasonembed.embedder.token_batches import token_batches
from reasonembed.redapter.gather import largest

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc


@dataclass(frozen=True)
class MicroBatches:
    """The texts of one kind (queries, passages, rewrites) of this rank and step.

    Args:
        ids: token ids of every text.
        passes: positions of the texts of each forward pass.
        seed: of dropout, where there is any; each pass has its own below it.
    """

    ids: Sequence[Sequence[int]]
    passes: Sequence[Sequence[int]]
    seed: int


def tower(
    ids: Sequence[Sequence[int]], batch_tokens: int, seed: int, same_on_all_ranks: bool, device: Any
) -> MicroBatches:
    """Split texts into passes of at most ``batch_tokens``, padding included.

    Args:
        ids: token ids of every text.
        batch_tokens: the budget.
        seed: of dropout.
        same_on_all_ranks: every rank must run as many passes, because each of them exchanges something.
        device: for the word with the other ranks.
    """
    lengths = [len(row) for row in ids]
    passes = token_batches(lengths, batch_tokens, device)
    if same_on_all_ranks:
        passes = split_further(passes, lengths, largest(len(passes), device))
    return MicroBatches(ids, passes, seed)


def split_further(passes: Sequence[Sequence[int]], lengths: Sequence[int], wanted: int) -> list[list[int]]:
    """As many passes as wanted, the heaviest split in half as often as it takes."""
    found = [list(one) for one in passes]
    while len(found) < wanted:
        costs = [len(one) * max(lengths[i] for i in one) if len(one) > 1 else 0 for one in found]
        heaviest = costs.index(max(costs))
        one = found[heaviest]
        found[heaviest : heaviest + 1] = [one[: len(one) // 2], one[len(one) // 2 :]]
    return found


def embed(engine: Any, texts: MicroBatches, many_passes: bool = False) -> torch.Tensor:
    """(texts, dim) float32 vectors in the order of the texts.

    Args:
        engine: runs the model.
        texts: of one kind.
        many_passes: as GradCache has them, without gradient: memory is watched.
    """
    parts = []
    for number in range(len(texts.passes)):
        parts.append(_forward(engine, texts, number))
        if many_passes:
            _give_back_memory()
    order = torch.tensor([position for one in texts.passes for position in one], device=parts[0].device)
    return torch.cat(parts)[torch.argsort(order)]


def backward_again(engine: Any, texts: MicroBatches, gradient: torch.Tensor) -> None:
    """The second half of GradCache: each pass once more, now with its part of the vectors' gradient (texts, dim)."""
    for number, positions in enumerate(texts.passes):
        vectors = _forward(engine, texts, number)
        engine.backward((vectors * gradient[list(positions)]).sum())
        _give_back_memory()


def _give_back_memory() -> None:
    """Let the system have what a finished pass has freed.

    The next pass has another shape and fits badly into the holes that this one leaves: over the hundreds of passes of a
    large batch a process on a CPU would grow by as much as the model itself needs.
    """
    if _trim is not None:
        _trim(0)


def _forward(engine: Any, texts: MicroBatches, number: int) -> torch.Tensor:
    # Both halves of GradCache, and a resumed run, must drop out the same units.
    torch.manual_seed(texts.seed + number)
    return engine(engine.model.pad([texts.ids[i] for i in texts.passes[number]])).float()  # type: ignore[no-any-return]
