"""Masks over the passages of a step: positives of a query, and passages that must not count as its negatives."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from reasonembed.redapter.batch_plan import Example
from reasonembed.redapter.gather import gather
from reasonembed.redapter.minhash import HASHES


@dataclass(frozen=True)
class PassageMasks:
    """Relations between the q queries of this rank and the p passages of all ranks.

    Args:
        positives: (q,) index of each query's first positive.
        known_positives: (q, p), True where the passage is a known positive of the query.
        excluded: (q, p), True where the passage is not a negative of the query although it is not its first positive:
            other known positives, and near-duplicates of the positives in the query's group.
    """

    positives: torch.Tensor
    known_positives: torch.Tensor
    excluded: torch.Tensor


def passage_masks(
    examples: Sequence[Example],
    counts: Sequence[int],
    first: int,
    near_duplicate: float,
    device: torch.device,
) -> PassageMasks:
    """Computes the masks of a step. Every rank must call this.

    Args:
        examples: of this rank.
        counts: number of passages of every rank.
        first: index of this rank's first passage among the passages of all ranks.
        near_duplicate: Jaccard similarity of three-word shingles at or above which a passage counts as a near-duplicate
            of a positive; 1 turns the check off.
        device: of the masks.
    """
    keys = gather(torch.tensor([key for e in examples for key in e.keys], device=device), counts)
    group_sizes = [len(e.passages) for e in examples]
    positives = torch.tensor(np.concatenate([[0], np.cumsum(group_sizes)[:-1]]) + first, device=device)
    known = torch.stack([torch.isin(keys, torch.tensor(e.positive_keys, device=device)) for e in examples])
    excluded = known
    if near_duplicate < 1:
        own_signatures = np.concatenate([e.signatures for e in examples]).reshape(-1, HASHES)
        signatures = gather(torch.from_numpy(own_signatures).to(device), counts)
        excluded = known | torch.stack([_near_duplicates(e, signatures, near_duplicate) for e in examples])
    excluded = excluded.clone()
    excluded[torch.arange(len(examples), device=device), positives] = False
    return PassageMasks(positives, known, excluded)


def _near_duplicates(example: Example, signatures: torch.Tensor, threshold: float) -> torch.Tensor:
    """Returns (p,), True where the share of equal hashes with one of the group's positives reaches the threshold."""
    positives = torch.from_numpy(example.signatures[: example.positives]).to(signatures.device)
    return torch.stack([(signatures == one).float().mean(1) >= threshold for one in positives]).any(0)
