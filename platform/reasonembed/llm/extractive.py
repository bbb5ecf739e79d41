"""``extractive``: an engine without a language model, for machines that have none.

It *generates* a query by taking a sentence of the document and rewording it (words of the document's own name are
removed, "Returns" becomes "Get"). It *rewrites* a query by pseudo-relevance feedback: the most specific words of the
query's best documents are appended. It *grades* a document by a fused lexical and dense score, relative to the score of
the query's own source document. The result is good enough to teach a small embedder a corpus; it does not replace
annotation by a language model.

The design was chosen on the dev questions of ``pydocs``; ``benchmarks/results`` has the figures.
"""

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from reasonembed.llm.protocol import Answer, Request
from reasonembed.retrieval.collection import Collection, words
from reasonembed.retrieval.embedded_corpus import EmbeddedCorpus
from reasonembed.retrieval.fusion import fuse_scores, top_k

MIN_WORDS, MAX_WORDS = 4, 40
# Lower bounds of the source's own scores: a ratio to a score near zero would be huge.
MIN_DENSE, MIN_LEXICAL = 0.2, 1e-6
# Lower bounds of the grades 2, 3, 4 and 5, in the relative score.
GRADE_BOUNDS = (0.4, 0.6, 0.7, 0.8)
# Share of a document's hubness that is subtracted from its dense score.
HUBNESS_WEIGHT = 0.25
# Weight of the mean vector of the feedback documents beside the query's own (Rocchio).
FEEDBACK_WEIGHT = 0.3
FEEDBACK_WORDS = 12

NAME_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
CODE_LINE = re.compile(r"^[\w.]+\(.*\)(\s*->.*)?$|^>>>|->")
SENTENCE_END = re.compile(r"(?<=[.!?])\s")
OPENINGS = (
    (re.compile(r"^Returns?\s+(?=\w)", re.I), "Get "),
    (re.compile(r"^(This|The)\s+(function|method|class|module)\s+", re.I), "Something that "),
)


class ExtractiveEngine:
    """Answers requests of the stages generate, rewrite and annotate by extraction and retrieval scores.

    Args:
        collections: the documents of every task, with their vectors.
        encode: texts to (texts, dim) unit vectors, with the model that made the collections' vectors.
        lexical_weight: share of BM25 in fused scores.
        feedback_docs: documents whose words extend a query.
    """

    name = "extractive"

    def __init__(
        self,
        collections: dict[str, Collection],
        encode: Callable[[Sequence[str]], np.ndarray],
        lexical_weight: float,
        feedback_docs: int,
    ) -> None:
        self.collections = collections
        self._encode = encode
        self._lexical_weight = lexical_weight
        self._feedback_docs = feedback_docs
        self._relative: tuple[tuple[str, str, str], np.ndarray] | None = None

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """Returns one answer per request, in order."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Answer:
        method = {"generate": self._generate, "rewrite": self._rewrite, "annotate": self._annotate}.get(request.stage)
        if method is None:
            return Answer(error=f"extractive: cannot answer stage {request.stage}", permanent=True)
        started = time.perf_counter()
        try:
            reply, score = method(request)
        except (KeyError, ValueError) as error:
            return Answer(error=f"extractive: {error}", permanent=True)
        text = json.dumps(reply, ensure_ascii=False)
        return Answer(text=text, score=score, seconds=time.perf_counter() - started)

    def _generate(self, request: Request) -> tuple[dict[str, Any], None]:
        return {"query": extract_query(request.fields["document"], request.fields["title"])}, None

    def _rewrite(self, request: Request) -> tuple[dict[str, Any], None]:
        """Returns the query followed by the words that distinguish its best documents from the rest of the task."""
        collection = self.collections[request.task]
        query = request.fields["query"]
        scores = fuse_scores(
            collection.vectors @ self._encode([query])[0],
            collection.bm25_split_names.scores(query),
            self._lexical_weight,
        )
        best = top_k(scores, self._feedback_docs, excluded=collection.positions([request.fields["source_doc_id"]]))
        own = set(words(query))
        counts: Counter[str] = Counter()
        for position in best:
            counts.update(
                word for word in set(words(collection.texts[position])) - own if collection.is_distinctive(word)
            )
        telling = sorted(counts, key=lambda word: (-counts[word] * collection.idf(word), word))[:FEEDBACK_WORDS]
        return {"reasoning_query": f"{query}. Related: {', '.join(telling)}" if telling else query}, None

    def _annotate(self, request: Request) -> tuple[dict[str, Any], float]:
        fields = request.fields
        collection = self.collections[request.task]
        relative = self._relative_scores(request.task, fields["query"], fields["source_doc_id"])
        score = round(float(relative[collection.position(fields["doc_id"])]), 4)
        grade = 1 + sum(score >= bound for bound in GRADE_BOUNDS)
        analysis = f"{score:.2f} of the source document's own score"
        return {"query_analysis": "", "document_analysis": analysis, "grade": grade}, score

    def _relative_scores(self, task: str, query: str, source_doc_id: str) -> np.ndarray:
        """Returns (documents,) fused scores in [0, 1], relative to the source document's. The last query's are cached,
        because pairs come grouped by query."""
        key = (task, query, source_doc_id)
        if self._relative is None or self._relative[0] != key:
            collection = self.collections[task]
            source = collection.position(source_doc_id)
            lexical = collection.bm25_split_names.scores(query)
            lexical = lexical / max(float(lexical[source]), MIN_LEXICAL)
            vector = self._encode([query])[0]

            def fused(vector: np.ndarray) -> np.ndarray:
                dense = collection.vectors @ vector - HUBNESS_WEIGHT * collection.hubness
                dense = dense / max(float(dense[source]), MIN_DENSE)
                return np.asarray((1 - self._lexical_weight) * dense + self._lexical_weight * lexical)

            best = top_k(fused(vector), self._feedback_docs, excluded=np.array([source]))
            expanded = vector + FEEDBACK_WEIGHT * collection.vectors[best].mean(axis=0)
            scores = np.clip(fused(expanded / np.linalg.norm(expanded)), 0, 1)
            self._relative = (key, scores)
        return self._relative[1]


def load_extractive_engine(
    corpus: EmbeddedCorpus | None, lexical_weight: float, feedback_docs: int
) -> ExtractiveEngine:
    """Returns the engine for workers.

    Args:
        corpus: the documents with their vectors; None for an engine that only generates.
        lexical_weight: share of BM25 in fused scores.
        feedback_docs: documents whose words extend a query.
    """
    if corpus is None:
        return ExtractiveEngine({}, lambda texts: np.zeros((len(texts), 0), np.float32), lexical_weight, feedback_docs)
    return ExtractiveEngine(corpus.load_collections(), corpus.load_query_encoder(), lexical_weight, feedback_docs)


def extract_query(document: str, title: str) -> str:
    """Returns one sentence of the document, reworded so that it does not name the document.

    Raises:
        ValueError: no sentence of the document can serve as a query.
    """
    name = title.split("(", maxsplit=1)[0].rsplit(".", 1)[-1]
    own_name = {part.lower() for part in NAME_PART.findall(name) if len(part) > 2}
    for block in re.split(r"\n\s*\n", document.strip()):
        paragraph = " ".join(block.split())
        if CODE_LINE.search(paragraph[:80]):
            continue
        for sentence in SENTENCE_END.split(paragraph):
            remaining = [word for word in sentence.split() if re.sub(r"\W", "", word).lower() not in own_name]
            query = re.sub(r"[`*]+", "", " ".join(remaining)).rstrip(" .:;,")
            for opening, replacement in OPENINGS:
                query = opening.sub(replacement, query)
            if MIN_WORDS <= len(query.split()) <= MAX_WORDS:
                return query
    raise ValueError("no sentence of the document can serve as a query")


def has_query_sentence(document: str, title: str) -> bool:
    """Returns whether a sentence of the document can serve as a query."""
    try:
        return bool(extract_query(document, title))
    except ValueError:
        return False
