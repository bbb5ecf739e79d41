"""Limits of a single request: its texts, and the size of its response."""

from collections.abc import Sequence

from reasonembed.config import Serve
from reasonembed.serving.refusals import RequestRefused

MAX_CHARS = 200_000  # of a text, because the tokenizer reads a text whole before it is cut
# Bytes of one number of a vector in a response: at most, as in `-1.2345678901234567e-05, `; and in base64.
DECIMAL_BYTES, BASE64_BYTES = 25, 16 / 3


def check_texts(texts: Sequence[str], settings: Serve) -> None:
    """Checks the texts of a request.

    Raises:
        RequestRefused: there are too many texts, or one is empty, too long or not valid Unicode.
    """
    if not 1 <= len(texts) <= settings.texts:
        raise RequestRefused(
            422, "invalid_request", f"a request may have 1 to {settings.texts} texts, not {len(texts)}"
        )
    for text in texts:
        if not text.strip():
            raise RequestRefused(422, "invalid_request", "a text is empty")
        if len(text) > MAX_CHARS:
            raise RequestRefused(413, "too_long", f"a text may have {MAX_CHARS} characters, not {len(text)}")
        try:
            text.encode()
        except UnicodeEncodeError:
            message = "a text contains half of a surrogate pair; send valid Unicode"
            raise RequestRefused(422, "invalid_request", message) from None


def check_search(queries: Sequence[str], top_k: int, by_bm25: bool, settings: Serve) -> None:
    """Checks the size of a search.

    Args:
        queries: its questions.
        top_k: documents for each question.
        by_bm25: whether the questions are searched by BM25, whose time grows with their length.
        settings: the section ``serve``.

    Raises:
        RequestRefused: the search is too large.
    """
    if len(queries) * top_k > settings.hits:
        raise RequestRefused(
            422,
            "invalid_request",
            f"a search may request {settings.hits} documents, not {len(queries)} questions x top_k {top_k}; "
            "send fewer questions or a smaller top_k",
        )
    if by_bm25 and (chars := sum(map(len, queries))) > settings.bm25_chars:
        raise RequestRefused(
            413,
            "too_long",
            f"the questions of a search by BM25 may have {settings.bm25_chars} characters together, not {chars}; "
            "send fewer or shorter ones, or use mode `dense`",
        )


def check_vectors(texts: int, dimension: int, in_base64: bool, settings: Serve) -> None:
    """Checks that the vectors of a request's texts fit into a response.

    Raises:
        RequestRefused: they do not.
    """
    if texts * dimension * (BASE64_BYTES if in_base64 else DECIMAL_BYTES) > settings.response_bytes:
        raise response_too_large(settings.response_bytes)


def response_too_large(max_bytes: int) -> RequestRefused:
    """Returns the error for a request whose response would be larger than ``max_bytes``."""
    return RequestRefused(
        413,
        "response_too_large",
        f"the response would be larger than {max_bytes} bytes; request fewer texts or documents, or in a search "
        "`return_text: false`",
    )
