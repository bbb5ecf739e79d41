"""Runs the HTTP API of ``serving`` on Ray Serve: the application, its replicas and its metrics."""
