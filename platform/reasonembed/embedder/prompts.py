"""What goes before a query's text. Before a document's goes what the model's folder asks for, mostly nothing."""

INSTRUCT = "Instruct: {instruction}\nQuery: {query}"


def query_text(query: str, instruction: str, instruct: bool, prompt: str = "") -> str:
    """A query as it is encoded.

    Args:
        query: bare.
        instruction: of its task.
        instruct: the model was trained with ``Instruct: {task}\\nQuery: {query}`` (METHOD §2), which is then used.
        prompt: what the model's own folder puts before queries otherwise.
    """
    return INSTRUCT.format(instruction=instruction, query=query) if instruct and instruction else prompt + query


def document_text(title: str, text: str) -> str:
    """Title and text as one passage, as BEIR joins them."""
    return f"{title} {text}".strip()
