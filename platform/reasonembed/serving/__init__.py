"""The search endpoint without Ray: the HTTP API and the search service; ``distributed/serve`` runs it on Ray Serve."""
