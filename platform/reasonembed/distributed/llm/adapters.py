"""How each engine runs on Ray Data: the check before a stage starts, and the transform of one attempt."""

from collections.abc import Callable
from dataclasses import dataclass

from reasonembed.config import Config
from reasonembed.distributed.data.worker_pool import Transform
from reasonembed.distributed.llm.attempt import Attempt
from reasonembed.distributed.llm.extractive_engine import extractive_transform
from reasonembed.distributed.llm.http_engine import check_server, http_transform
from reasonembed.distributed.llm.vllm_engine import check_build, vllm_transform


@dataclass(frozen=True)
class EngineAdapter:
    """An engine on Ray.

    Args:
        transform: from the rows of an attempt to those of its intermediate files.
        check: raises ``UserError`` where the engine cannot work.
    """

    transform: Callable[[Attempt], Transform]
    check: Callable[[Config], None] = lambda config: None


ADAPTERS = {
    "extractive": EngineAdapter(extractive_transform),
    "vllm": EngineAdapter(vllm_transform, lambda config: check_build(config.cluster.llm)),
    "http": EngineAdapter(http_transform, lambda config: check_server(config.llm)),
}
