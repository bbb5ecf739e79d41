"""What Ray's autoscaler and the cloud's own interface say to a config of ``ray up``: a key that nobody reads, or a
value of the wrong type, is refused."""

import copy
from functools import lru_cache
from typing import Any, Literal

import botocore.session
from botocore.validate import validate_parameters
from manifests import Strict, check_node_labels
from ray.autoscaler._private.util import prepare_config, validate_config


class GcpDisk(Strict):
    boot: bool
    autoDelete: bool
    type: Literal["PERSISTENT", "SCRATCH"]
    initializeParams: "GcpImage"


class GcpImage(Strict):
    diskSizeGb: int
    sourceImage: str


class GcpAccount(Strict):
    email: str
    scopes: list[str]


class GcpScheduling(Strict):
    onHostMaintenance: Literal["TERMINATE", "MIGRATE"]
    provisioningModel: Literal["SPOT", "STANDARD"] = "STANDARD"


class GcpItem(Strict):
    key: str
    value: str


class GcpMetadata(Strict):
    items: list[GcpItem]


class GcpInstance(Strict):
    """Of Compute Engine's ``instances.insert``, what our file uses."""

    machineType: str
    disks: list[GcpDisk]
    serviceAccounts: list[GcpAccount]
    scheduling: GcpScheduling | None = None
    metadata: GcpMetadata | None = None


PROVIDER = {
    "aws": {"type", "region", "cache_stopped_nodes"},
    "gcp": {"type", "region", "availability_zone", "project_id"},
}


def check_ray_up(written: dict[str, Any]) -> dict[str, Any]:
    """The config as ``ray up`` goes on with it, after its own schema and validation; what its schema leaves open is
    checked against the cloud's interface."""
    provider = written["provider"]
    assert set(provider) == PROVIDER[provider["type"]], f"provider: {sorted(provider)}"
    prepared = prepare_config(copy.deepcopy(written))
    validate_config(prepared)
    for name, kind in written["available_node_types"].items():
        assert set(kind["resources"]) <= {"CPU", "GPU"}, f"unknown resources of {name}"
        check_node_labels(kind["labels"])
        if provider["type"] == "aws":
            _check_ec2(kind["node_config"])
        else:
            GcpInstance.model_validate(kind["node_config"])
    return prepared


def _check_ec2(node_config: dict[str, Any]) -> None:
    validate_parameters({"MinCount": 1, "MaxCount": 1, **node_config}, _run_instances())


@lru_cache
def _run_instances() -> Any:
    return botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
