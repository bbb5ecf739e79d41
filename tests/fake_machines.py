"""Ray's fake multi-node provider, as the autoscaler of a test's head imports it."""

from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any
from unittest.mock import patch

import ray._private.parameter
from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider
from ray.autoscaler.tags import TAG_RAY_USER_NODE_TYPE


class FakeMachines(FakeMultiNodeProvider):
    """Each machine has a folder of its own. In one for all, each would unpack a job's code over the others'."""

    _one_at_a_time = Lock()
    _started = 0

    def _create_node_with_resources_and_labels(
        self, node_config: Any, tags: dict[str, str], count: int, resources: Any, labels: Any
    ) -> None:
        with self._one_at_a_time:
            self._started += 1
            folder = Path(self.provider_config["folder"]) / f"{tags[TAG_RAY_USER_NODE_TYPE]}-{self._started}"
            params = partial(ray._private.parameter.RayParams, temp_dir=str(folder))
            with patch.object(ray._private.parameter, "RayParams", params):
                super()._create_node_with_resources_and_labels(node_config, tags, count, resources, labels)
