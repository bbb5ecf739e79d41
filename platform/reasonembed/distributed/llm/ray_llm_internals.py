"""What this package uses of ``ray.data.llm`` that is not public, for ray==2.60.0.

``tests/contract/test_ray_llm_internals.py`` fails when another Ray version changes it.

- A processor's ``postprocess`` attribute: the public argument does not see the rows in which the engine failed, and
  those rows reach the writer with other columns than the rest. Replacing the attribute shows every row.
- The column ``__inference_error__``, which holds an error, and ``__data``, which holds a row's own columns.
- The stage ``vLLMEngineStage`` and its ``map_batches_kwargs``: Ray Data sends actors to labelled nodes, but not the
  placement groups that tensor-parallel actors create; and it restarts actors whose engine dies without end.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from reasonembed.config import Resources

ERROR_COLUMN = "__inference_error__"
"""A row in which it is set passes all steps of a processor unchanged."""
DATA_COLUMN = "__data"
ENGINE_STAGE = "vLLMEngineStage"


def replace_postprocess(processor: Any, function: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Makes a processor call a function for every row, also for those in which the engine failed."""
    assert hasattr(processor, "postprocess")
    processor.postprocess = function


def own_columns(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the row's columns as the processor's stages left them."""
    columns: Mapping[str, Any] = row[DATA_COLUMN]
    return columns


def limit_restarts(processor: Any, restarts: int) -> None:
    """Sets how often each engine is started again after it has died; after that the job ends with ``RayActorError``."""
    processor.get_stage_by_name(ENGINE_STAGE).map_batches_kwargs["max_restarts"] = restarts


def label_placement_groups(processor: Any, resources: Resources, bundles: int) -> None:
    """Makes the engines create their placement groups on the nodes that the resources name."""
    stage = processor.get_stage_by_name(ENGINE_STAGE)
    stage.map_batches_kwargs["ray_remote_args_fn"] = partial(_labelled_placement_group, resources, bundles)


def _labelled_placement_group(resources: Resources, bundles: int) -> dict[str, Any]:
    group = ray.util.placement_group([resources.bundle] * bundles, bundle_label_selector=[resources.labels] * bundles)
    strategy = PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=True)
    return {"scheduling_strategy": strategy}
