"""The embedder: a transformer model with its pooling, its length limit and its prompts."""
