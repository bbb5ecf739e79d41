import base64
import json
import struct

import numpy as np
import pytest

from reasonembed.serving.json_pieces import embedding_pieces, join_pieces, search_pieces
from reasonembed.serving.refusals import RequestRefused

QUERIES = ["first", 'a "second"\n', "ohne"]
RESULTS = [
    [{"doc_id": "d\\1", "text": "schön", "score": 0.5}, {"doc_id": "d2", "text": "\u2028", "score": 0.25}],
    [{"doc_id": "d2", "score": 1.0}],
    [],
]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_search_in_pieces_is_the_json_of_the_whole(count):
    body = join_pieces(search_pieces("org/m", 'v"1', QUERIES[:count], RESULTS[:count]), 10_000)
    entries = [{"query": query, "hits": hits} for query, hits in zip(QUERIES[:count], RESULTS[:count], strict=True)]
    whole = {"model": "org/m", "index": 'v"1', "results": entries}
    assert body.decode() == json.dumps(whole, ensure_ascii=False)


@pytest.mark.parametrize("in_base64", [False, True])
def test_vectors_in_pieces_are_the_json_of_the_whole(in_base64):
    vectors = np.array([[0.5, -1e-9], [3.1415927, 0]], np.float32)
    body = json.loads(join_pieces(embedding_pieces("m", vectors, 7, in_base64), 10_000))
    expected = vectors.tolist()
    if in_base64:
        expected = [base64.b64encode(struct.pack("<2f", *row)).decode() for row in expected]
    assert body == {
        "object": "list",
        "model": "m",
        "data": [{"object": "embedding", "index": number, "embedding": row} for number, row in enumerate(expected)],
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }


def test_a_body_above_the_limit_is_refused_without_the_remaining_pieces():
    made = []

    def pieces():
        for number in range(10):
            made.append(number)
            yield "ä"

    assert join_pieces(pieces(), 20) == "ä".encode() * 10
    made.clear()
    with pytest.raises(RequestRefused, match="larger than 5 bytes") as error:
        join_pieces(pieces(), 5)
    assert (error.value.status, error.value.code) == (413, "response_too_large")
    assert made == [0, 1, 2]
