"""Stage 3: a relevance grade from 1 to 5, and a score beside it, for every (query, candidate) pair."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, ClassVar

import pyarrow as pa

from reasonembed import schemas
from reasonembed.llm.protocol import Kind, Parsed, Reply, Request
from reasonembed.llm.replies import Grading
from reasonembed.remixer.prompting import relevance_definitions
from reasonembed.retrieval.collection import Collection


class AnnotateTask:
    """``schemas.CANDIDATES`` to ``schemas.ANNOTATIONS``.

    Pairs come grouped by query, and in the prompt the query stands before the document, so that an engine can share
    what it computes for a query.

    Args:
        load_queries: gives the rows of ``schemas.QUERIES`` by query id; called when the first pair comes.
        load_collections: gives the texts, by task, likewise.
        relevance: definitions by task, laid over the built-in ones.
    """

    kind: ClassVar[Kind] = "annotate"
    id_column: ClassVar[str] = "pair_id"
    reply: ClassVar[type[Reply]] = Grading
    schema: ClassVar[pa.Schema] = schemas.ANNOTATIONS

    def __init__(
        self,
        load_queries: Callable[[], Mapping[str, Mapping[str, Any]]],
        load_collections: Callable[[], Mapping[str, Collection]],
        relevance: Mapping[str, str],
    ) -> None:
        definitions = relevance_definitions()
        self._load_queries = load_queries
        self._load_collections = load_collections
        self._relevance = {**definitions["tasks"], **relevance}
        self._default = relevance.get("default", definitions["default"])

    # Only the process that writes the prompts needs them, not the one that reads the answers.
    @cached_property
    def _queries(self) -> Mapping[str, Mapping[str, Any]]:
        return self._load_queries()

    @cached_property
    def _collections(self) -> Mapping[str, Collection]:
        return self._load_collections()

    def request(self, row: Mapping[str, Any]) -> Request:
        query = self._queries[row["query_id"]]
        collection = self._collections[query["task"]]
        fields = {
            "relevance": self._relevance.get(query["task"], self._default),
            "query": query["query"],
            "source_doc_id": query["source_doc_id"],
            "doc_id": row["doc_id"],
            "document": collection.texts[collection.position(row["doc_id"])],
        }
        return Request("annotate", query["task"], fields)

    def result(self, row: Mapping[str, Any], parsed: Parsed, engine: str) -> dict[str, Any]:
        grading = parsed.value
        score = parsed.score if parsed.score is not None or grading is None else (grading.grade - 1) / 4
        return {
            "pair_id": row["pair_id"],
            "query_id": row["query_id"],
            "doc_id": row["doc_id"],
            "grade": grading.grade if grading else None,
            "score": score,
            "rationale": grading.rationale if grading else None,
            "annotator": engine,
        }
