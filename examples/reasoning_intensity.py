"""Computes RI-InfoNCE (ReasonEmbed, arXiv 2510.08252) for three queries and prints the losses and the weights.

A query whose rewrite q' finds the positive passage much more easily than the query itself needs much reasoning, so it
gets a larger weight. It needs no network, no GPU and no Ray. After `make setup`, run it in the repository root:

    .venv/bin/python examples/reasoning_intensity.py
"""

import torch

from reasonembed.config import Train
from reasonembed.embedder.model import Embedder
from reasonembed.redapter.losses import infonce, reasoning_intensity
from reasonembed.redapter.objective import QueryLosses, step_loss

QUERIES = [
    "Why did my bottle of lemonade crack in the freezer?",
    "Why do I feel light when the lift starts to go down?",
    "How many bones does an adult have?",
]
REWRITES = [
    "Water grows in volume when it freezes, and a full bottle leaves no room for the ice.",
    "While a body accelerates downwards, the normal force of the floor is smaller than gravity.",
    "The number of bones in the body of an adult human.",
]
PASSAGES = [  # the positive of each query, in order, then a hard negative for each
    "Ice takes up about nine percent more volume than liquid water.",
    "A scale measures the normal force, which is not equal to gravity in an accelerated frame.",
    "The adult human skeleton consists of 206 bones.",
    "Lemonade in a bottle keeps for a week in the fridge and for months in the freezer.",
    "The light in the lift goes out when nobody has used it for a while.",
    "A baby is born with about 300 bones, some of which grow together before it is an adult.",
]


def main() -> None:
    """Encodes the texts, computes the terms of the loss, and shows what the weights change."""
    settings = Train(temperature=0.1, ri_clamp=5.0, ri_start_step=100)
    embedder = Embedder.load(settings.base_model)
    queries, rewrites, passages = (torch.from_numpy(embedder.encode(t, 128)) for t in (QUERIES, REWRITES, PASSAGES))
    queries.requires_grad_()
    positives = torch.arange(len(QUERIES))
    query_loss = infonce(queries, passages, positives, settings.temperature)
    rewrite_loss = infonce(rewrites, passages, positives, settings.temperature)
    intensity = reasoning_intensity(query_loss, rewrite_loss, settings.ri_clamp)
    columns = (query_loss, rewrite_loss, intensity, intensity / intensity.sum())

    print("  l(q)    l(q')   RI      weight  query")
    for *values, query in zip(*(column.tolist() for column in columns), QUERIES, strict=True):
        print("  " + "  ".join(f"{value:.4f}" for value in values) + f"  {query}")
    for step in (0, settings.ri_start_step):  # before `ri_start_step`, every query has the same weight
        losses = QueryLosses(objective=query_loss, query=query_loss, rewrite=rewrite_loss)
        loss, _ = step_loss(losses, step, len(QUERIES), settings)
        print(f"loss of step {step}: {loss.item():.4f}")


if __name__ == "__main__":
    main()
