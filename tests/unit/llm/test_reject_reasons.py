import pytest

from reasonembed.llm.reject_reasons import (
    NO_REQUEST,
    TOO_LONG,
    is_transport,
    may_pass_in_another_run,
    was_processed,
)


@pytest.mark.parametrize(
    ("reason", "transport", "another_run", "processed"),
    [
        ("transport: HTTP 503", True, True, False),
        ("transport: EngineGenerateError: ", True, True, False),
        ("server: HTTP 400: bad value", False, True, True),
        ("server: not a chat completion (KeyError)", False, True, True),
        ("engine: ValueError: bad value", False, True, True),
        (TOO_LONG, False, True, False),
        (f"{NO_REQUEST}: no text", False, False, False),
        ("invalid answer: answer: json_invalid", False, False, True),
    ],
)
def test_the_kind_of_a_reason_decides_who_repeats_the_row(reason, transport, another_run, processed):
    assert (is_transport(reason), may_pass_in_another_run(reason), was_processed(reason)) == (
        transport,
        another_run,
        processed,
    )


def test_an_accepted_row_was_processed():
    assert was_processed(None)
    assert not is_transport(None)
