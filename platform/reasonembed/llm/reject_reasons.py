"""Reasons of rejected rows that tell apart an invalid answer from a failure of the engine.

Reasons are texts in the rows' column ``reject_reason``; their beginnings are the kinds.
"""

TRANSPORT = "transport: "
"""The request reached no working engine: a lost connection, a time limit, HTTP 429 or 5xx, a failed engine."""
SERVER = "server: "
"""The server refused the request, or its response was no chat completion."""
ENGINE = "engine: "
"""The engine in the cluster refused the request."""
NO_REQUEST = "no request can be made of the row"
TOO_LONG = "prompt and answer do not fit into llm.max_model_len"


def is_transport(reason: str | None) -> bool:
    """Returns whether a row was rejected because no engine has processed its request."""
    return reason is not None and reason.startswith(TRANSPORT)


def may_pass_in_another_run(reason: str) -> bool:
    """Returns whether the row may be accepted by another server, or with another ``llm.max_model_len``."""
    return reason == TOO_LONG or reason.startswith((TRANSPORT, SERVER, ENGINE))


def was_processed(reason: str | None) -> bool:
    """Returns whether an engine has processed the row's request, whatever the result (None: an accepted row)."""
    return not is_transport(reason) and (reason is None or not reason.startswith((NO_REQUEST, TOO_LONG)))
