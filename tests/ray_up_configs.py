"""Checks of ``ray up`` configs by Ray's autoscaler and the cloud's API: unknown keys and wrong types are rejected."""

import copy
from functools import lru_cache
from typing import Any, Literal

import botocore.session
from botocore.validate import validate_parameters
from manifests import Strict, check_node_labels
from ray.autoscaler._private.util import prepare_config, validate_config


class GcpDisk(Strict):
    """A disk of an instance."""

    boot: bool
    autoDelete: bool
    type: Literal["PERSISTENT", "SCRATCH"]
    initializeParams: "GcpImage"


class GcpImage(Strict):
    """The image that a disk is made from."""

    diskSizeGb: int
    sourceImage: str


class GcpAccount(Strict):
    """A service account of an instance."""

    email: str
    scopes: list[str]


class GcpScheduling(Strict):
    """The scheduling options of an instance."""

    onHostMaintenance: Literal["TERMINATE", "MIGRATE"]
    provisioningModel: Literal["SPOT", "STANDARD"] = "STANDARD"


class GcpItem(Strict):
    """An item of metadata."""

    key: str
    value: str


class GcpMetadata(Strict):
    """The metadata of an instance."""

    items: list[GcpItem]


class GcpInstance(Strict):
    """Those fields of Compute Engine's ``instances.insert`` that our file uses."""

    machineType: str
    disks: list[GcpDisk]
    serviceAccounts: list[GcpAccount]
    scheduling: GcpScheduling | None = None
    metadata: GcpMetadata | None = None


PROVIDER_KEYS = {
    "aws": {"type", "region", "cache_stopped_nodes"},
    "gcp": {"type", "region", "availability_zone", "project_id"},
}


def check_ray_up(config: dict[str, Any]) -> dict[str, Any]:
    """Checks a config of ``ray up``; returns it with the autoscaler's defaults filled in.

    Ray's schema leaves provider and node configs open; these are checked against the cloud's API.
    """
    provider = config["provider"]
    assert set(provider) == PROVIDER_KEYS[provider["type"]], f"provider: {sorted(provider)}"
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    for name, node_type in config["available_node_types"].items():
        assert set(node_type["resources"]) <= {"CPU", "GPU"}, f"unknown resources of {name}"
        check_node_labels(node_type["labels"])
        if provider["type"] == "aws":
            _check_ec2(node_type["node_config"])
        else:
            GcpInstance.model_validate(node_type["node_config"])
    return prepared


def _check_ec2(node_config: dict[str, Any]) -> None:
    validate_parameters({"MinCount": 1, "MaxCount": 1, **node_config}, _run_instances_shape())


@lru_cache
def _run_instances_shape() -> Any:
    return botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
