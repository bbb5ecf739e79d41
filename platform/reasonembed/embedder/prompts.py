"""What goes before a query's text. Documents go in bare."""

INSTRUCT = "Instruct: {instruction}\nQuery: {query}"


def query_text(query: str, instruction: str, instruct: bool) -> str:
    """``Instruct: {task}\\nQuery: {query}`` (METHOD §2) for a model trained with it; the bare query for others."""
    return INSTRUCT.format(instruction=instruction, query=query) if instruct and instruction else query


def document_text(title: str, text: str) -> str:
    """Title and text as one passage, as BEIR joins them."""
    return f"{title} {text}".strip()
