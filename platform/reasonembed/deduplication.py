"""Near-duplicates among texts, by the Jaccard similarity of their shingles of three words.

Method: A. Broder, "On the resemblance and containment of documents", 1997, computed exactly.
"""

from collections.abc import Sequence

from reasonembed.ids import normalised_text

SHINGLE_WORDS = 3


class NearDuplicateIndex:
    """Index of texts that finds the equal and the nearly equal texts of a given text.

    Args:
        texts: the indexed texts; methods return positions in this sequence.
        threshold: least Jaccard similarity of near-duplicates, in (0, 1].
    """

    def __init__(self, texts: Sequence[str], threshold: float) -> None:
        self._threshold = threshold
        self._by_text: dict[str, list[int]] = {}
        self._by_shingle: dict[tuple[str, ...], list[int]] = {}
        self._shingle_counts: list[int] = []
        for position, text in enumerate(texts):
            self._by_text.setdefault(fold_case(text), []).append(position)
            shingles = _shingles(text)
            for shingle in shingles:
                self._by_shingle.setdefault(shingle, []).append(position)
            self._shingle_counts.append(len(shingles))

    def find_equal(self, text: str) -> list[int]:
        """Returns the positions of the texts that differ from a text at most in case and white space."""
        return self._by_text.get(fold_case(text), [])

    def find_near(self, text: str) -> list[int]:
        """Returns the positions of the near-duplicates of a text, equal texts included, in ascending order."""
        shingles = _shingles(text)
        shared_counts: dict[int, int] = {}
        for shingle in shingles:
            for position in self._by_shingle.get(shingle, ()):
                shared_counts[position] = shared_counts.get(position, 0) + 1
        near = {
            position
            for position, shared in shared_counts.items()
            if shared / (len(shingles) + self._shingle_counts[position] - shared) >= self._threshold
        }
        return sorted(near | set(self.find_equal(text)))


def fold_case(text: str) -> str:
    """Returns a text in lower case with single spaces, for comparison."""
    return normalised_text(text).lower()


def _shingles(text: str) -> set[tuple[str, ...]]:
    """Returns the runs of three words; the run of all words of a shorter text."""
    words = fold_case(text).split()
    return {tuple(words[start : start + SHINGLE_WORDS]) for start in range(max(1, len(words) - SHINGLE_WORDS + 1))}
