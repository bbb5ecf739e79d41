"""Judging retrieval: rank a benchmark's documents for its questions, measure, say how sure the figures are."""
