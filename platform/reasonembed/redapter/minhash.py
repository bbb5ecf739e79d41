"""Equality and near-equality of passages: a key for equal texts, a MinHash signature for nearly equal ones."""

import re
import zlib
from collections.abc import Sequence

import numpy as np

from reasonembed.ids import digest, normalised_text

WORD = re.compile(r"\w+")
SHINGLE_WORDS = 3
HASHES = 64
PRIME = (1 << 61) - 1
_RANDOM = np.random.default_rng(0)
_FACTORS = _RANDOM.integers(1, 1 << 31, HASHES, dtype=np.uint64)
_SUMMANDS = _RANDOM.integers(0, 1 << 31, HASHES, dtype=np.uint64)


def text_key(text: str) -> int:
    """Returns a number that is the same for equal texts (white space normalised); fits int64."""
    return int(digest(normalised_text(text), length=15), 16)


def minhash_signature(text: str) -> np.ndarray:
    """Returns the MinHash signature of a text's three-word shingles (Broder, 1997).

    The share of equal numbers in two signatures estimates the Jaccard similarity of the texts' sets of shingles. A text
    of fewer than three words is one shingle.

    Returns:
        (HASHES,) int32.
    """
    words = WORD.findall(text.lower())
    shingles = {" ".join(words[i : i + SHINGLE_WORDS]) for i in range(max(1, len(words) - SHINGLE_WORDS + 1))}
    values = np.fromiter((zlib.crc32(shingle.encode()) for shingle in shingles), np.uint64, len(shingles))
    hashes = (values[:, None] * _FACTORS + _SUMMANDS) % np.uint64(PRIME)
    signature: np.ndarray = (hashes.min(axis=0) & np.uint64(0x7FFFFFFF)).astype(np.int32)
    return signature


def minhash_signatures(texts: Sequence[str]) -> np.ndarray:
    """Returns the signatures of several texts, (texts, HASHES) int32."""
    return np.stack([minhash_signature(text) for text in texts])
