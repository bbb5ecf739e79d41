"""A local Ray refuses processes without its token. For ray==2.60.0 (``distributed.ray_auth_internals``)."""

import os
import subprocess
import sys
from importlib import metadata

import pytest

pytestmark = pytest.mark.extended

START = """
import ray  # before a token is chosen, as in a notebook
from reasonembed.distributed.cluster import run_remote
assert run_remote(lambda: 7) == 7
print(ray.get_runtime_context().gcs_address, flush=True)
input()
"""
JOIN = (
    "import ray, sys; ray.init(address=sys.argv[1], logging_level=50); print(ray.get(ray.remote(lambda: 7).remote()))"
)


def environment(**variables):
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | variables


@pytest.fixture(scope="module")
def address():
    process = subprocess.Popen(
        [sys.executable, "-c", START], env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process.stdout.readline().strip()
    process.communicate("\n", timeout=60)


def test_the_pin():
    assert metadata.version("ray") == "2.60.0"


@pytest.mark.parametrize(
    "variables",
    [{"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}],
    ids=["no token", "another token"],
)
def test_a_process_without_the_token_runs_no_code(address, variables):
    assert address
    done = subprocess.run(
        [sys.executable, "-c", JOIN, address],
        env=environment(RAY_gcs_rpc_server_reconnect_timeout_s="5", **variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode != 0
    assert "7" not in done.stdout.split()
