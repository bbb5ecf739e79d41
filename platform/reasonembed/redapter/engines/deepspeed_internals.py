"""Everything that this library uses of DeepSpeed beyond its documented interface.

``tests/contract/test_deepspeed_internals.py`` names the version of DeepSpeed for which this holds.
"""

from collections import defaultdict


def skip_op_probing() -> None:
    """Declares all of DeepSpeed's compiled operators unavailable in this process, without checking them.

    On a CPU, DeepSpeed otherwise compiles a shared-memory operator for communication when it is first initialised,
    which takes about 40 s; gloo and torch's AdamW do not need it. DeepSpeed has no setting for this: ``DS_BUILD_OPS``
    and its relatives only act when DeepSpeed itself is installed.
    """
    import deepspeed

    # DeepSpeed fills this mapping on first access, from operator name to whether the operator can be built.
    deepspeed.ops.__compatible_ops__ = defaultdict(bool)
