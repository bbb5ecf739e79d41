"""The search endpoint: the HTTP API and the searcher behind it; ``distributed/serving`` puts them on Ray Serve."""
