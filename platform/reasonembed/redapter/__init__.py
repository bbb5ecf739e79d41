"""Redapter: trains the embedder with RI-InfoNCE (ReasonEmbed, arXiv 2510.08252). Imports no Ray."""
