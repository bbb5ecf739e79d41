"""Ray Serve around the HTTP API of ``serving``."""
