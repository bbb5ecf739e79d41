"""Batches of similar length under a token budget: padding in arrival order costs several times the real tokens."""

from collections.abc import Sequence


def token_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Split positions into batches, longest texts first, so that rows × longest row stays within the budget.

    Args:
        lengths: tokens of every text.
        budget: tokens in a batch, padding included; a longer text makes a batch of its own.

    Returns:
        Lists of positions; every position occurs once.
    """
    batches: list[list[int]] = []
    room = 0
    for position in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if room <= 0:
            batches.append([])
            room = max(1, budget // max(1, lengths[position]))
        batches[-1].append(position)
        room -= 1
    return batches
