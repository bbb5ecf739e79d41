"""Text analysis for BM25: how a text is split into tokens.

Two analyses:

* ``lucene``: like Lucene's EnglishAnalyzer, for figures that are comparable with published ones;
* ``split-names``: names such as ``os.path.join`` are split into their parts, and single letters are left out. ReMixer
  mines and grades with it, because a user's question contains the parts of a name and not the name.
"""

import re
from collections.abc import Callable, Sequence
from typing import Literal

import bm25s
import Stemmer

Analysis = Literal["lucene", "split-names"]

# Words according to Unicode's word boundaries (UAX 29), as in Lucene's StandardTokenizer: a dot, apostrophe or colon
# between letters, and a dot or comma between digits, belongs to the word.
WORD = re.compile(r"\w+(?:(?:(?<=[^\W\d_])[.:'’·](?=[^\W\d_])|(?<=\d)[.,;'’](?=\d))\w+)*")
STOP_WORDS = frozenset(
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this "
    "to was will with".split()
)


def lucene_tokens(texts: Sequence[str]) -> list[list[str]]:
    """Returns the tokens of every text by Lucene's EnglishAnalyzer: lower-case words without possessive endings and
    stop words, stemmed by PorterStemFilter."""
    stemmer = Stemmer.Stemmer("porter")
    tokens = []
    for text in texts:
        words = (word.removesuffix("'s").removesuffix("’s") for word in WORD.findall(text.lower()))
        tokens.append([_stem(word, stemmer) for word in words if word not in STOP_WORDS and word.strip("_")])
    return tokens


def split_name_tokens(texts: Sequence[str]) -> list[list[str]]:
    """Returns the tokens of every text: lower-case runs of two or more letters without stop words, stemmed by
    Snowball's English rules."""
    tokens: list[list[str]] = bm25s.tokenize(
        list(texts), stopwords="en", stemmer=Stemmer.Stemmer("english"), return_ids=False, show_progress=False
    )
    return tokens


def analyser(analysis: Analysis) -> Callable[[Sequence[str]], list[list[str]]]:
    """Returns the function of an analysis: texts to their tokens."""
    return lucene_tokens if analysis == "lucene" else split_name_tokens


def _stem(word: str, stemmer: Stemmer.Stemmer) -> str:
    if len(word) < 3:
        return word
    stem: str = stemmer.stemWord(word)
    # Lucene has two of Porter's later rules that Snowball's "porter" does not have: bli -> bl(e), logi -> log.
    return stem[:-1] if stem.endswith(("bli", "logi")) else stem
