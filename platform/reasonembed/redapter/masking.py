"""Which of the step's passages are no negatives of a query."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from reasonembed.redapter.batch_plan import Example
from reasonembed.redapter.gather import gather
from reasonembed.redapter.minhash import HASHES


@dataclass(frozen=True)
class Relations:
    """Between this rank's queries and the passages of all ranks.

    Args:
        own: (q,) index of each query's first positive.
        known: (q, p), True where the passage is a known positive of the query.
        excluded: (q, p), True where the passage is no negative: a known positive but ``own``, or a near-duplicate of a
            positive in the query's group.
    """

    own: torch.Tensor
    known: torch.Tensor
    excluded: torch.Tensor


def relate(
    examples: Sequence[Example], counts: Sequence[int], first: int, near_duplicate: float, device: torch.device
) -> Relations:
    """
    Args:
        examples: this rank's.
        counts: passages of every rank.
        first: index of this rank's first passage among those of all ranks.
        near_duplicate: Jaccard similarity from which on a passage counts as a positive's near-duplicate.
        device: for the result.
    """
    keys = gather(torch.tensor([key for e in examples for key in e.keys], device=device), counts)
    groups = [len(e.passages) for e in examples]
    own = torch.tensor(np.concatenate([[0], np.cumsum(groups)[:-1]]) + first, device=device)
    known = torch.stack([torch.isin(keys, torch.tensor(e.positive_keys, device=device)) for e in examples])
    excluded = known
    if near_duplicate < 1:
        drawn = torch.from_numpy(np.concatenate([e.signatures for e in examples]).reshape(-1, HASHES)).to(
            device
        )
        everyone = gather(drawn, counts)
        near = [_near(e, everyone, near_duplicate) for e in examples]
        excluded = known | torch.stack(near)
    excluded = excluded.clone()
    excluded[torch.arange(len(examples), device=device), own] = False
    return Relations(own, known, excluded)


def _near(example: Example, everyone: torch.Tensor, threshold: float) -> torch.Tensor:
    """(p,), True where a passage's signature agrees with that of one of the group's positives."""
    positives = torch.from_numpy(example.signatures[: example.positives]).to(everyone.device)
    return torch.stack([(everyone == one).float().mean(1) >= threshold for one in positives]).any(0)
