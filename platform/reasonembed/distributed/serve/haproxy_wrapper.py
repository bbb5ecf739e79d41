"""Starts Ray Serve's HAProxy with a safer configuration; written for ray==2.60.0.

Ray Serve generates HAProxy's configuration from a fixed template: its pages of statistics and metrics listen on all
interfaces without a password, every user of the machine may control it, and it waits for a request's headers forever.
No setting changes that, but the environment variable ``RAY_SERVE_HAPROXY_BINARY_PATH`` names the program that Ray Serve
starts. The script here changes those lines of the configuration and then becomes HAProxy.

``tests/contract/test_ray_serve_proxies.py`` fails if an update of Ray changes the template.
"""

import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ray.serve._private.haproxy import get_haproxy_binary

from reasonembed.distributed.serve.header_timeout import HEADER_SECONDS
from reasonembed.errors import UserError

ENABLED_VARIABLE, BINARY_VARIABLE = "RAY_SERVE_ENABLE_HA_PROXY", "RAY_SERVE_HAPROXY_BINARY_PATH"
ENVIRONMENT = {"RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "60"}
"""Settings of Ray Serve: seconds without a byte from or to a client, an hour by default."""
SCRIPT = """#!/bin/sh
# Ray Serve's HAProxy, with statistics, metrics and control for this user on this machine only.
previous=
for argument in "$@"; do
    if [ "$previous" = -f ]; then
        sed -i -E \\
            -e '/^listen stats/,$ s/^( *bind) \\*:/\\1 127.0.0.1:/' \\
            -e '/^frontend prometheus/,/^frontend http_frontend/ s/^( *bind) :/\\1 127.0.0.1:/' \\
            -e 's/mode 666 level admin/mode 600 level admin/' \\
            -e 's/^defaults$/&\\n    timeout http-request {seconds}s/' \\
            "$argument" || exit 1
    fi
    previous=$argument
done
exec {binary} "$@"
"""


@contextmanager
def haproxy_script() -> Iterator[Path]:
    """Yields the path of an executable script that starts HAProxy; it is deleted afterwards.

    Raises:
        UserError: there is no HAProxy on this machine.
    """
    try:
        binary = get_haproxy_binary()
    except FileNotFoundError as error:
        raise UserError(f"{ENABLED_VARIABLE}=1: {error}") from None
    with tempfile.TemporaryDirectory(prefix="reasonembed-haproxy-") as folder:
        path = Path(folder) / "haproxy"
        path.write_text(SCRIPT.format(seconds=HEADER_SECONDS, binary=shlex.quote(binary)))
        path.chmod(0o700)
        yield path
