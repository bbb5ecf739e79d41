"""Token of a Ray that this process starts.

Ray's ports are open to the machine's network. With a random token only processes that inherit it can connect; without
one, any process that reaches a port could run code here. This module does not import Ray.
"""

import os
import secrets

AUTH_MODE, AUTH_TOKEN = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"


def require_token() -> None:
    """Sets a random token for a local Ray, unless the environment chooses how to authenticate, or names a cluster."""
    if AUTH_MODE not in os.environ and "RAY_ADDRESS" not in os.environ:
        os.environ[AUTH_MODE] = "token"
        os.environ[AUTH_TOKEN] = secrets.token_hex(32)
