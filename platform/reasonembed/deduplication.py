"""Which of a set of texts a text equals or nearly equals, by the runs of three words that they share."""

from collections.abc import Sequence

from reasonembed.ids import normalised_text


class NearDuplicateIndex:
    """
    Args:
        texts: to look among.
        threshold: Jaccard similarity of three-word runs from which on two texts are near-copies.
    """

    def __init__(self, texts: Sequence[str], threshold: float) -> None:
        self._threshold = threshold
        self._equal: dict[str, list[int]] = {}
        self._sizes: list[int] = []
        self._by_run: dict[tuple[str, ...], list[int]] = {}
        for number, text in enumerate(texts):
            self._equal.setdefault(folded(text), []).append(number)
            runs = _runs(text)
            for run in runs:
                self._by_run.setdefault(run, []).append(number)
            self._sizes.append(len(runs))

    def equal(self, text: str) -> list[int]:
        """Numbers of the texts that are the same but for case and white space."""
        return self._equal.get(folded(text), [])

    def of(self, text: str) -> list[int]:
        """Numbers of the texts that are the same or nearly so."""
        runs = _runs(text)
        shared: dict[int, int] = {}
        for run in runs:
            for number in self._by_run.get(run, ()):
                shared[number] = shared.get(number, 0) + 1
        near = {
            number
            for number, count in shared.items()
            if count / (len(runs) + self._sizes[number] - count) >= self._threshold
        }
        return sorted(near | set(self.equal(text)))


def folded(text: str) -> str:
    return normalised_text(text).lower()


def _runs(text: str) -> set[tuple[str, ...]]:
    """Runs of three words; of all words where there are fewer."""
    words = folded(text).split()
    return {tuple(words[start : start + 3]) for start in range(max(1, len(words) - 2))}
