"""Redapter: training the embedder with RI-InfoNCE. Nothing here knows Ray."""
