"""LLM stages on Ray Data: the engines' adapters, attempts, token usage."""
