"""Evaluation of retrieval: rankings of a benchmark's documents, measures, their significance, and the report."""
