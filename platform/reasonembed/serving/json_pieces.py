"""Large responses as JSON, encoded piece by piece.

``json.dumps`` holds the interpreter lock until it is finished, even in a thread. With one call per document or vector,
the event loop runs in between, and a response that is too large is noticed before all of it has been encoded.
"""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from reasonembed.serving.limits import response_too_large


def dump_json(content: Any) -> str:
    """Returns a value as JSON."""
    return json.dumps(content, ensure_ascii=False)


def join_pieces(pieces: Iterable[str], max_bytes: int) -> bytes:
    """Joins pieces of JSON into the body of a response.

    Args:
        pieces: in order.
        max_bytes: largest size of the body.

    Raises:
        RequestRefused: the body is larger.
    """
    body = bytearray()
    for piece in pieces:
        body += piece.encode()
        if len(body) > max_bytes:
            raise response_too_large(max_bytes)
    return bytes(body)


def search_pieces(
    model: str, index: str, queries: Sequence[str], results: Sequence[Sequence[Mapping[str, Any]]]
) -> Iterator[str]:
    """Yields the response of a search.

    Args:
        model: name of the model.
        index: version of the index.
        queries: the questions.
        results: documents of each question.
    """
    yield f'{{"model": {dump_json(model)}, "index": {dump_json(index)}, "results": ['
    for number, (query, hits) in enumerate(zip(queries, results, strict=True)):
        yield f'{", " if number else ""}{{"query": {dump_json(query)}, "hits": ['
        for rank, hit in enumerate(hits):
            yield f"{', ' if rank else ''}{dump_json(hit)}"
        yield "]}"
    yield "]}"


def embedding_pieces(model: str, vectors: np.ndarray, tokens: int, in_base64: bool) -> Iterator[str]:
    """Yields the response with the vectors of texts, in the format of OpenAI.

    Args:
        model: name of the model.
        vectors: (texts, dim) float32.
        tokens: number of tokens of all texts.
        in_base64: as little-endian float32 in base64, instead of a list of numbers.
    """
    yield f'{{"object": "list", "model": {dump_json(model)}, "data": ['
    for number, vector in enumerate(vectors):
        embedding = base64.b64encode(vector.astype("<f4").tobytes()).decode() if in_base64 else vector.tolist()
        entry = dump_json({"object": "embedding", "index": number, "embedding": embedding})
        yield f"{', ' if number else ''}{entry}"
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    yield f'], "usage": {dump_json(usage)}}}'
