"""Errors of engines as answers, with reasons that are short and uniform enough to be counted."""

from reasonembed.llm.protocol import Answer
from reasonembed.llm.task_rows import NO_REQUEST

CONTEXT_LENGTH_MESSAGES = ("maximum model length", "maximum context length", "max_model_len")


def answer_for_error(message: str) -> Answer:
    """Returns the answer that stands for an engine's error message."""
    if exceeds_context(message):
        return Answer(error="prompt and answer do not fit into llm.max_model_len", permanent=True)
    if message.startswith(NO_REQUEST):
        return Answer(error=message, permanent=True)
    return Answer(error=f"engine: {message.strip().splitlines()[0][:200]}")


def exceeds_context(message: str) -> bool:
    """Returns whether the error says that the prompt is too long for the model."""
    return any(words in message for words in CONTEXT_LENGTH_MESSAGES)
