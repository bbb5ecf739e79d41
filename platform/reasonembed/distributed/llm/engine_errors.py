"""Errors of engines: as answers, with reasons short and uniform enough to be counted, or as the end of the job."""

from ray.exceptions import RayActorError

from reasonembed.llm.circuit_breaker import EngineUnavailable, engine_unavailable
from reasonembed.llm.protocol import Answer
from reasonembed.llm.reject_reasons import ENGINE, NO_REQUEST, TOO_LONG, TRANSPORT

CONTEXT_LENGTH_MESSAGES = ("maximum model length", "maximum context length", "max_model_len")
REQUEST_ERRORS = {
    "KeyError",
    "LoRAAdapterNotFoundError",
    "NotImplementedError",
    "TypeError",
    "ValueError",
    "VLLMClientError",
    "VLLMNotFoundError",
    "VLLMUnprocessableEntityError",
    "VLLMValidationError",
}
"""Exceptions of vLLM that a request causes; all others are failures of the engine."""
MESSAGE_CHARS = 200


def answer_for_error(message: str) -> Answer:
    """Returns the answer that stands for an engine's error message, which begins with the exception's name."""
    if exceeds_context(message):
        return Answer(error=TOO_LONG, permanent=True)
    if message.startswith(NO_REQUEST):
        return Answer(error=message, permanent=True)
    kind = ENGINE if message.partition(":")[0] in REQUEST_ERRORS else TRANSPORT
    return Answer(error=f"{kind}{message.strip().splitlines()[0][:MESSAGE_CHARS]}")


def exceeds_context(message: str) -> bool:
    """Returns whether the error says that the prompt is too long for the model."""
    return any(words in message for words in CONTEXT_LENGTH_MESSAGES)


def engine_death(error: RayActorError) -> EngineUnavailable:
    """Returns the error of a job whose engine has died and was not started again.

    Args:
        error: as Ray raises it. Of an engine that could not start it holds the whole traceback.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    problem = "could not start" if error.actor_init_failed else "has died too often"
    cause = lines[-1] if error.actor_init_failed else lines[0]
    return engine_unavailable("llm.engine vllm", f"an engine {problem} ({cause[:MESSAGE_CHARS]})")
