"""Exact inner products in single precision, a block of documents at a time, on a CPU or a GPU."""

from collections.abc import Sequence

import numpy as np

DOCUMENTS_AT_A_TIME = 65_536


class ExactScores:
    """Scores of all documents of a task.

    Copies of a document get equal scores to the last bit, so that ties between them are ties: a product is computed
    once for each text, because its place within a matrix product can decide its last bit.

    Args:
        vectors: (documents, dim) float32.
        texts: of the documents.
        device: where products are computed; a GPU holds one block.
    """

    def __init__(self, vectors: np.ndarray, texts: Sequence[str], device: str = "cpu") -> None:
        numbers: dict[str, int] = {}
        row_of = np.array([numbers.setdefault(text, len(numbers)) for text in texts], np.int64)
        self._row_of = row_of if len(numbers) < len(texts) else None
        self._distinct = vectors if self._row_of is None else vectors[np.unique(row_of, return_index=True)[1]]
        self._device = device

    def __call__(self, queries: np.ndarray) -> np.ndarray:
        """(queries, dim) to (queries, documents), both float32."""
        scores = np.empty((len(queries), len(self._distinct)), np.float32)
        for start in range(0, len(self._distinct), DOCUMENTS_AT_A_TIME):
            block = self._distinct[start : start + DOCUMENTS_AT_A_TIME]
            scores[:, start : start + len(block)] = self._product(queries, block)
        return scores if self._row_of is None else scores[:, self._row_of]

    def _product(self, queries: np.ndarray, block: np.ndarray) -> np.ndarray:
        if self._device == "cpu":
            return np.asarray(queries @ block.T, np.float32)
        import torch

        # TF32 would keep ten bits of the vectors.
        torch.backends.cuda.matmul.allow_tf32 = False
        found = torch.from_numpy(queries).to(self._device) @ torch.from_numpy(block).to(self._device).T
        return np.asarray(found.cpu().numpy(), np.float32)
