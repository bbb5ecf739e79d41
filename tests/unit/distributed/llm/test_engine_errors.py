import pytest
from ray.exceptions import ActorDiedError, RayActorError, RayTaskError

from reasonembed.distributed.llm.engine_errors import answer_for_error, engine_death
from reasonembed.llm.circuit_breaker import EngineUnavailable
from reasonembed.llm.reject_reasons import NO_REQUEST


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
        ("RuntimeError: first line\nsecond line", "transport: RuntimeError: first line", False),
        ("EngineGenerateError: ", "transport: EngineGenerateError:", False),
        ("VLLMValidationError: no such grammar", "engine: VLLMValidationError: no such grammar", False),
        ("ValueError: bad\nvalue", "engine: ValueError: bad", False),
        ("x" * 1000, f"transport: {'x' * 200}", False),
    ],
)
def test_an_error_message_becomes_an_answer_whose_reason_can_be_counted(message, error, permanent):
    answer = answer_for_error(message)
    assert (answer.text, answer.error, answer.permanent) == (None, error, permanent)


def test_the_death_of_an_engine_is_one_line():
    error = engine_death(RayActorError())
    assert isinstance(error, EngineUnavailable)
    assert str(error).startswith("llm.engine vllm: an engine has died too often (The actor")
    assert "\n" not in str(error)


def test_an_engine_that_cannot_start_is_reported_with_the_last_line_of_its_traceback():
    cause = RayTaskError("__init__", "Traceback ...\n  in g\nValueError: no memory\n", ValueError("no memory"))
    error = str(engine_death(ActorDiedError(cause)))
    assert error.startswith("llm.engine vllm: an engine could not start (ValueError: no memory); ")
