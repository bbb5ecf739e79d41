"""Ids made from content: the same content has the same id on every machine, in every run."""

import hashlib
import json
from typing import Any


def digest(*parts: str, length: int = 16) -> str:
    """Returns the SHA-256 of texts as hexadecimal characters.

    Args:
        parts: hashed with their lengths, so that ("ab", "c") differs from ("a", "bc").
        length: number of characters of the result, at most 64.
    """
    sha = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        sha.update(len(encoded).to_bytes(8, "big"))
        sha.update(encoded)
    return sha.hexdigest()[:length]


def digest_json(value: Any, length: int = 16) -> str:
    """Returns the digest of a value that JSON can represent; the order of keys does not matter."""
    return digest(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False), length=length)


def normalised_text(text: str) -> str:
    """Returns a text with single spaces between words. Texts are equal, everywhere, when these are equal."""
    return " ".join(text.split())


def query_id(task: str, source_doc_id: str) -> str:
    """Returns the id of the one query that is generated from a document; known before the query is."""
    return digest("query", task, source_doc_id)


def pair_id(query: str, doc_id: str) -> str:
    """Returns the id of a query, given by its id, and one of its candidate documents."""
    return digest("pair", query, doc_id)


def text_id(text: str) -> str:
    """Returns the id of a text as it is encoded: equal texts have one vector."""
    return digest("text", text)
