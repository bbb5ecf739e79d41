"""Ray, and only here (with ``jobs/`` and ``serve/``): stages over Ray Data, training over Ray Train, Ray Serve."""
