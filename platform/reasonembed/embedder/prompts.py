"""The text form in which queries and documents are encoded."""

INSTRUCT = "Instruct: {instruction}\nQuery: {query}"


def query_text(query: str, instruction: str, instruct: bool, prompt: str = "") -> str:
    """Returns a query in the form in which it is encoded.

    Args:
        query: the query alone.
        instruction: the instruction of the query's task.
        instruct: whether the model was trained with ``Instruct: {task}\\nQuery: {query}`` (ReasonEmbed, arXiv
            2510.08252); if so, that form is used.
        prompt: in the other case, the prompt that the model's own folder puts before queries.
    """
    return INSTRUCT.format(instruction=instruction, query=query) if instruct and instruction else prompt + query


def document_text(title: str, text: str) -> str:
    """Joins title and text into one passage, as BEIR does."""
    return f"{title} {text}".strip()
