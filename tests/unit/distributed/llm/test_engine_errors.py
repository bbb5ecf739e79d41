import pytest

from reasonembed.distributed.llm.engine_errors import answer_for_error
from reasonembed.llm.task_rows import NO_REQUEST


@pytest.mark.parametrize(
    ("message", "error", "permanent"),
    [
        (
            "VLLMValidationError: The decoder prompt (length 200) is longer than the maximum model length of 64",
            "prompt and answer do not fit into llm.max_model_len",
            True,
        ),
        (
            "server: HTTP 400: This model's maximum context length is 64 tokens",
            "prompt and answer do not fit into llm.max_model_len",
            True,
        ),
        (f"{NO_REQUEST}: 'nowhere'", f"{NO_REQUEST}: 'nowhere'", True),
        ("RuntimeError: first line\nsecond line", "engine: RuntimeError: first line", False),
        ("x" * 1000, f"engine: {'x' * 200}", False),
    ],
)
def test_an_error_message_becomes_an_answer_whose_reason_can_be_counted(message, error, permanent):
    answer = answer_for_error(message)
    assert (answer.text, answer.error, answer.permanent) == (None, error, permanent)
