"""Everything that this library uses of DeepSpeed beyond its documented interface.

``tests/contract/test_deepspeed_internals.py`` names the version of DeepSpeed for which this holds.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch


def skip_op_probing() -> None:
    """Declares all of DeepSpeed's compiled operators unavailable in this process, without checking them.

    On a CPU, DeepSpeed otherwise compiles a shared-memory operator for communication when it is first initialised,
    which takes about 40 s; gloo and torch's AdamW do not need it. DeepSpeed has no setting for this: ``DS_BUILD_OPS``
    and its relatives only act when DeepSpeed itself is installed.
    """
    import deepspeed

    # DeepSpeed fills this mapping on first access, from operator name to whether the operator can be built.
    deepspeed.ops.__compatible_ops__ = defaultdict(bool)


def clip_gradients(parameters: Iterable[torch.nn.Parameter], max_norm: float) -> torch.Tensor:
    """Clips summed gradients as DeepSpeed's own step does without ZeRO in float32, to the last bit.

    DeepSpeed's step does not look at the norm there: with one that is not finite it writes NaN into all weights.

    Args:
        parameters: with their gradients, equal on all ranks.
        max_norm: largest norm after clipping.

    Returns:
        The norm before clipping.
    """
    from deepspeed.runtime.utils import clip_grad_norm_

    return clip_grad_norm_(parameters=parameters, max_norm=max_norm)  # type: ignore[no-any-return]
