"""GradCache: gradients of a batch that is larger than memory (Gao et al., 2021, arXiv 2101.06983, section 3).

The texts of a step are split into micro-batches, and a step has these parts:

1. forward passes without a graph give the representations (unit vectors) of all texts;
2. the loss of the whole batch gives the gradient of every representation, which is cached;
3. a second forward pass of each micro-batch, now with a graph, carries its cached gradients to the weights, where they
   accumulate.

Without GradCache the representations are computed with a graph in part 1, and part 3 falls away.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from reasonembed.embedder.token_batches import token_batches
from reasonembed.redapter.gather import max_over_ranks

_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it


@dataclass(frozen=True)
class MicroBatches:
    """The texts of one kind (queries, passages or rewrites) of this rank and step, split into micro-batches.

    Args:
        ids: token ids of every text.
        positions: for each micro-batch, the positions of its texts in ``ids``.
        seed: of dropout; micro-batch number n uses ``seed + n``.
    """

    ids: Sequence[Sequence[int]]
    positions: Sequence[Sequence[int]]
    seed: int

    def __len__(self) -> int:
        return len(self.positions)


def micro_batches(
    ids: Sequence[Sequence[int]], batch_tokens: int, seed: int, same_number_on_all_ranks: bool, device: Any
) -> MicroBatches:
    """Splits texts into micro-batches of similar length.

    Args:
        ids: token ids of every text.
        batch_tokens: tokens in a micro-batch at most, padding included.
        seed: of dropout.
        same_number_on_all_ranks: whether every rank must have the same number of micro-batches, because the engine
            exchanges data with every pass. Every rank must call this function then.
        device: that runs the passes.
    """
    lengths = [len(row) for row in ids]
    positions = token_batches(lengths, batch_tokens, device)
    if same_number_on_all_ranks:
        positions = split_further(positions, lengths, max_over_ranks(len(positions), device))
    return MicroBatches(ids, positions, seed)


def split_further(positions: Sequence[Sequence[int]], lengths: Sequence[int], number: int) -> list[list[int]]:
    """Halves the micro-batch with the most padded tokens until there are ``number`` of them.

    Args:
        positions: of the texts of each micro-batch.
        lengths: tokens of every text.
        number: of micro-batches; a smaller number than there are changes nothing.
    """
    batches = [list(batch) for batch in positions]
    while len(batches) < number:
        costs = [len(batch) * max(lengths[i] for i in batch) if len(batch) > 1 else 0 for batch in batches]
        largest = costs.index(max(costs))
        batch = batches[largest]
        batches[largest : largest + 1] = [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
    return batches


def representations(engine: Any, batches: MicroBatches, release_memory: bool = False) -> torch.Tensor:
    """Runs the model on all micro-batches; the caller decides by ``torch.no_grad`` whether a graph is built.

    Args:
        engine: a ``TrainingEngine``.
        batches: the texts.
        release_memory: whether to return freed memory to the system after every pass, as GradCache needs.

    Returns:
        (texts, dim) float32 unit vectors, in the order of the texts.
    """
    parts = []
    for number in range(len(batches)):
        parts.append(_forward(engine, batches, number))
        if release_memory:
            _release_memory()
    order = torch.tensor([position for batch in batches.positions for position in batch], device=parts[0].device)
    return torch.cat(parts)[torch.argsort(order)]


def accumulate_gradients(engine: Any, batches: MicroBatches, gradients: torch.Tensor) -> None:
    """Runs every micro-batch again, with a graph, and carries its cached gradients back to the weights.

    Args:
        engine: a ``TrainingEngine``.
        batches: the texts.
        gradients: (texts, dim) gradient of the loss with respect to each representation.
    """
    for number, positions in enumerate(batches.positions):
        vectors = _forward(engine, batches, number)
        engine.backward((vectors * gradients[list(positions)]).sum())
        _release_memory()


def _release_memory() -> None:
    """Returns freed memory to the system.

    The next pass has another shape and fits badly into the gaps that this one leaves. Over the hundreds of passes of a
    large batch, a process on a CPU would grow by as much memory as the model itself needs.
    """
    if _malloc_trim is not None:
        _malloc_trim(0)


def _forward(engine: Any, batches: MicroBatches, number: int) -> torch.Tensor:
    # Both forward passes of GradCache, and a resumed training, must drop out the same units.
    torch.manual_seed(batches.seed + number)
    batch = engine.model.pad([batches.ids[i] for i in batches.positions[number]])
    return engine(batch).float()  # type: ignore[no-any-return]
