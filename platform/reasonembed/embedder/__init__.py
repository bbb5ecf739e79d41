"""The embedder: a transformer, a pooling, a length and the prompts that go with it."""
