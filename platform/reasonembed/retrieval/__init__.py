"""Retrieval: BM25, exact dense search, the fusion of ranked lists, and the vector indexes that are served."""
