"""The node provider of a test's autoscaler: Ray's fake multi-node provider, whose machines are processes."""

from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any
from unittest.mock import patch

import ray._private.parameter
from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider
from ray.autoscaler.tags import TAG_RAY_USER_NODE_TYPE


class FakeMachines(FakeMultiNodeProvider):
    """Ray's fake multi-node provider with a temporary folder per machine.

    With one shared folder, the machines would unpack the code of a job over each other's copy.
    """

    _start_lock = Lock()
    _count = 0

    def _create_node_with_resources_and_labels(
        self, node_config: Any, tags: dict[str, str], count: int, resources: Any, labels: Any
    ) -> None:
        with self._start_lock:
            self._count += 1
            folder = Path(self.provider_config["folder"]) / f"{tags[TAG_RAY_USER_NODE_TYPE]}-{self._count}"
            params = partial(ray._private.parameter.RayParams, temp_dir=str(folder))
            with patch.object(ray._private.parameter, "RayParams", params):
                super()._create_node_with_resources_and_labels(node_config, tags, count, resources, labels)
