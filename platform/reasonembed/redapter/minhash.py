"""What makes two passages the same: equal text by a key, nearly equal text by a MinHash signature."""

import re
import zlib
from collections.abc import Sequence

import numpy as np

from reasonembed.ids import digest, normalised_text

WORD = re.compile(r"\w+")
RUN = 3
HASHES = 64
PRIME = (1 << 61) - 1
_RANDOM = np.random.default_rng(0)
_FACTORS = _RANDOM.integers(1, 1 << 31, HASHES, dtype=np.uint64)
_SUMMANDS = _RANDOM.integers(0, 1 << 31, HASHES, dtype=np.uint64)


def text_key(text: str) -> int:
    """Equal texts have equal keys; fits int64."""
    return int(digest(normalised_text(text), length=15), 16)


def minhash_signature(text: str) -> np.ndarray:
    """(HASHES,) int32 MinHash values of the text's runs of three words (Broder, 1997); a short text is one run."""
    words = WORD.findall(text.lower())
    runs = {" ".join(words[i : i + RUN]) for i in range(max(1, len(words) - RUN + 1))}
    values = np.fromiter((zlib.crc32(run.encode()) for run in runs), np.uint64, len(runs))
    hashed = (values[:, None] * _FACTORS + _SUMMANDS) % np.uint64(PRIME)
    smallest: np.ndarray = (hashed.min(axis=0) & np.uint64(0x7FFFFFFF)).astype(np.int32)
    return smallest


def minhash_signatures(texts: Sequence[str]) -> np.ndarray:
    """(texts, HASHES)"""
    return np.stack([minhash_signature(text) for text in texts])
