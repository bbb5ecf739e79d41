"""Exact inner products in single precision, a block of documents at a time, on the CPU or a GPU."""

from collections.abc import Sequence

import numpy as np

BLOCK_DOCUMENTS = 65_536


class ExactScorer:
    """Scores all documents of a task by their inner product with a query.

    Documents with equal texts get equal scores to the last bit, so that they tie. Each distinct text is therefore
    computed once: the position of a row in a matrix product can decide the last bit of its result.

    Args:
        vectors: (documents, dim) float32.
        texts: of the documents.
        device: where products are computed; a GPU holds one block at a time.
    """

    def __init__(self, vectors: np.ndarray, texts: Sequence[str], device: str = "cpu") -> None:
        numbers: dict[str, int] = {}
        text_numbers = np.array([numbers.setdefault(text, len(numbers)) for text in texts], np.int64)
        self._text_numbers = text_numbers if len(numbers) < len(texts) else None
        first_rows = np.unique(text_numbers, return_index=True)[1]
        self._distinct_vectors = vectors if self._text_numbers is None else vectors[first_rows]
        self._device = device

    def __call__(self, queries: np.ndarray) -> np.ndarray:
        """Returns the scores of all documents, (queries, documents) float32.

        Args:
            queries: (queries, dim) float32.
        """
        scores = np.empty((len(queries), len(self._distinct_vectors)), np.float32)
        for start in range(0, len(self._distinct_vectors), BLOCK_DOCUMENTS):
            block = self._distinct_vectors[start : start + BLOCK_DOCUMENTS]
            scores[:, start : start + len(block)] = self._product(queries, block)
        return scores if self._text_numbers is None else scores[:, self._text_numbers]

    def _product(self, queries: np.ndarray, block: np.ndarray) -> np.ndarray:
        if self._device == "cpu":
            return np.asarray(queries @ block.T, np.float32)
        import torch

        # TF32 would round the vectors to ten bits of mantissa.
        torch.backends.cuda.matmul.allow_tf32 = False
        product = torch.from_numpy(queries).to(self._device) @ torch.from_numpy(block).to(self._device).T
        return np.asarray(product.cpu().numpy(), np.float32)
