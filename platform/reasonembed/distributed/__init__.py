"""The only package, with ``cli``, that imports Ray: data stages, LLM engines, training and serving on a cluster."""
