"""What ``reasonembed.redapter.engines.deepspeed_internals`` relies on in DeepSpeed, checked for the pinned version."""

import os
import subprocess
import sys
from importlib.metadata import requires, version

import pytest

PIN = "deepspeed==0.19.8"

# The probe of operators raises an error here, so that a call of it is noticed before it compiles anything.
BUILD_SHARED_MEMORY_OPERATOR = """
import sys
import deepspeed
from deepspeed.comm.torch import build_shm_op
from deepspeed.ops.op_builder import builder

class Probed(Exception):
    pass

def probe(*arguments, **keywords):
    raise Probed

builder.probe_is_compatible = probe
if sys.argv[1] == "skip":
    from reasonembed.redapter.engines.deepspeed_internals import skip_op_probing
    skip_op_probing()
try:
    print("operator", build_shm_op())
except Probed:
    print("probed")
"""


def test_the_pin_is_the_version_that_was_checked():
    assert PIN in requires("reasonembed")
    assert f"deepspeed=={version('deepspeed')}" == PIN


@pytest.mark.parametrize(("argument", "expected"), [("skip", "operator None"), ("do not skip", "probed")])
def test_the_shared_memory_operator_is_probed_unless_probing_is_skipped(argument, expected):
    done = subprocess.run(
        [sys.executable, "-c", BUILD_SHARED_MEMORY_OPERATOR, argument],
        env={**os.environ, "DS_ACCELERATOR": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == expected
