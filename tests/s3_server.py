"""An S3 server for the tests: moto in a process of its own, or Ceph's gateway."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from processes import free_port, kill, responds, start_process, wait_for


@contextmanager
def running_s3_server(server: str) -> Iterator[None]:
    """Runs ``moto`` or ``ceph``; this process and those that it starts reach the server through ``AWS_*`` variables."""
    if server == "ceph":
        from ceph.gateway import running_gateway as run_server
    else:
        run_server = running_moto
    with run_server() as variables:
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


@contextmanager
def running_moto() -> Iterator[dict[str, str]]:
    """Runs moto's server; yields the ``AWS_*`` variables of its clients."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    process = start_process([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port])
    try:
        wait_for(lambda: responds(endpoint), process, 60)
        yield {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }
    finally:
        kill(process)
