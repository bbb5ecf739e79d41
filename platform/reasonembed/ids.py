"""Content-hash ids: the same content gets the same id on every machine, in every run."""

import hashlib
import json
from typing import Any


def digest(*parts: str, length: int = 16) -> str:
    """Hex digest of ``length`` characters; parts are length-prefixed, so that ("ab", "c") differs from ("a", "bc")."""
    sha = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        sha.update(len(raw).to_bytes(8, "big"))
        sha.update(raw)
    return sha.hexdigest()[:length]


def digest_json(value: Any, length: int = 16) -> str:
    """Digest of a JSON-like value that does not depend on the order of keys."""
    return digest(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False), length=length)


def normalised_text(text: str) -> str:
    """What "equal text" means throughout: equal after runs of white space are folded."""
    return " ".join(text.split())


def query_id(task: str, source_doc_id: str) -> str:
    """A document yields one query, so the query is known by its source before it is written."""
    return digest("query", task, source_doc_id)


def pair_id(query: str, doc_id: str) -> str:
    return digest("pair", query, doc_id)


def text_id(text: str) -> str:
    """Of a text as it is encoded: equal texts, wherever they stand, have one vector."""
    return digest("text", text)
