"""BM25 over one task's documents, indexed with bm25s (k1 0.9, b 0.4).

Two ways to see words in a text:

* ``lucene``: as Lucene's EnglishAnalyzer does, for figures that stand beside published ones;
* ``pieces``: names such as ``os.path.join`` fall into their parts and single letters are left out. What ReMixer mines
  and grades with, because a user's question says the parts and not the name.

Two ways to weigh a query's words:

* ``count``: by how often the query says them, as BM25 has it;
* ``bm25``: by the BM25 weight that they have in the query, as if it were a document. BRIGHT's own baseline does so (its
  queries are as long as documents), which on some of its tasks doubles the score: compare like with like.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import bm25s
import numpy as np
import Stemmer

K1, B = 0.9, 0.4
WEIGHTS, DOCUMENTS, STARTS, WORDS = "weights.npy", "documents.npy", "starts.npy", "words.json"
Analysis = Literal["lucene", "pieces"]
Weights = Literal["count", "bm25"]

# Words as Unicode's rules break them (UAX 29, which Lucene's StandardTokenizer follows): a dot, apostrophe or colon
# between letters and a dot or comma between digits are inside a word.
WORD = re.compile(r"\w+(?:(?:(?<=[^\W\d_])[.:'’·](?=[^\W\d_])|(?<=\d)[.,;'’](?=\d))\w+)*")
STOP_WORDS = frozenset(
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this "
    "to was will with".split()
)


def pieces(texts: Sequence[str]) -> list[list[str]]:
    """Lower-case runs of two letters or more, without stop words, stemmed by Snowball's English rules."""
    tokens: list[list[str]] = bm25s.tokenize(
        list(texts), stopwords="en", stemmer=Stemmer.Stemmer("english"), return_ids=False, show_progress=False
    )
    return tokens


def analyse(texts: Sequence[str]) -> list[list[str]]:
    """Lower-case words without possessive endings and stop words, stemmed as Lucene's PorterStemFilter does."""
    stemmer = Stemmer.Stemmer("porter")
    found = []
    for text in texts:
        words = (word.removesuffix("'s").removesuffix("’s") for word in WORD.findall(text.lower()))
        kept = [word for word in words if word not in STOP_WORDS and word.strip("_")]
        found.append([_stem(word, stemmer) for word in kept])
    return found


def _stem(word: str, stemmer: Stemmer.Stemmer) -> str:
    if len(word) < 3:
        return word
    stem: str = stemmer.stemWord(word)
    # Two of Porter's own later rules, which Lucene has and Snowball's "porter" has not: bli -> bl(e), logi -> log.
    return stem[:-1] if stem.endswith(("bli", "logi")) else stem


class Bm25:
    def __init__(self, texts: Sequence[str], analysis: Analysis = "lucene") -> None:
        self._analyse = analyse if analysis == "lucene" else pieces
        tokens = self._analyse(texts)
        self._size = len(tokens)
        self._mean_length = sum(map(len, tokens)) / max(1, self._size)
        self._vocabulary: dict[str, int] = {}
        self._weights, self._documents, self._starts = np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(1, int)
        if any(tokens):
            model = bm25s.BM25(k1=K1, b=B, method="lucene")
            model.index(tokens, show_progress=False)
            self._vocabulary = model.vocab_dict
            # By token: the documents that have it, and its weight in each.
            self._weights, self._documents, self._starts = (model.scores[n] for n in ("data", "indices", "indptr"))

    def scores(self, query: str, weights: Weights = "count") -> np.ndarray:
        """(documents,) float32; zero where no word is shared."""
        [tokens] = self._analyse([query])
        counts = Counter(tokens)
        scores = np.zeros(self._size, np.float32)
        for token in tokens if weights == "count" else counts:
            number = self._vocabulary.get(token)
            if number is not None:
                here = slice(self._starts[number], self._starts[number + 1])
                weight = 1.0 if weights == "count" else self._weight(number, counts[token], len(tokens))
                scores[self._documents[here]] += weight * self._weights[here]
        return scores

    def save(self, folder: Path, start: int, end: int) -> None:
        """Write what ``load`` reads: the documents from ``start`` up to ``end``, weighed as parts of the whole."""
        folder.mkdir(parents=True, exist_ok=True)
        here = (self._documents >= start) & (self._documents < end)
        np.save(folder / WEIGHTS, self._weights[here])
        np.save(folder / DOCUMENTS, (self._documents[here] - start).astype(np.int32))
        np.save(folder / STARTS, np.concatenate([[0], np.cumsum(here)])[self._starts])
        vocabulary = {word: int(number) for word, number in self._vocabulary.items()}
        (folder / WORDS).write_text(json.dumps({"documents": end - start, "words": vocabulary}, ensure_ascii=False))

    @classmethod
    def load(cls, folder: Path) -> "Bm25":
        """A part that ``save`` wrote, memory-mapped. It knows no weights of a query's words but ``count``."""
        part = cls([])
        told = json.loads((folder / WORDS).read_text())
        part._size, part._vocabulary = told["documents"], told["words"]
        part._weights, part._documents, part._starts = (
            np.load(folder / name, mmap_mode="r") for name in (WEIGHTS, DOCUMENTS, STARTS)
        )
        return part

    def _weight(self, token: int, count: int, length: int) -> float:
        """BM25 weight of a token in a query of so many tokens, Lucene's form."""
        frequency = int(self._starts[token + 1] - self._starts[token])
        idf = np.log1p((self._size - frequency + 0.5) / (frequency + 0.5))
        return float(idf * count / (count + K1 * (1 - B + B * length / self._mean_length)))
