"""What Kubernetes, KubeRay, Ray Serve, Ray's autoscaler and EC2 would say to a file of ours, as far as it can be known
without them: each check raises for a key that nobody reads, a value of the wrong type, and numbers that do not fit."""

import copy
import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Annotated, Any, Literal

import botocore.session
import kubernetes_validate
import yaml
from botocore.validate import validate_parameters
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start as ray_start
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import ServeDeploySchema

from reasonembed.config.cluster import POOL
from reasonembed.distributed.serving import Changeable, ServeArgs

KUBERNETES = "1.34"
POOLS = {"head", "cpu", "gpu-spot", "gpu-train", "serve"}
RESOURCES = {"cpu", "memory", "nvidia.com/gpu"}


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


# ---- KubeRay: the fields of its ray.io/v1 reference, release 1.6


def _pod(template: dict[str, Any]) -> dict[str, Any]:
    assert set(template) <= {"metadata", "spec"}, f"unknown keys in a pod template: {sorted(template)}"
    metadata = {"name": "pod", **template.get("metadata", {})}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    _kubernetes(json.dumps(pod))
    mounted = {volume["name"] for volume in template["spec"].get("volumes", [])}
    for container in template["spec"]["containers"]:
        assert {mount["name"] for mount in container.get("volumeMounts", [])} <= mounted
        for amounts in container["resources"].values():
            assert set(amounts) <= RESOURCES, f"unknown resources {sorted(amounts)}"
    return template


def _start_params(params: dict[str, str]) -> dict[str, str]:
    known = {option.removeprefix("--") for parameter in ray_start.params for option in parameter.opts}
    assert set(params) <= known, f"`ray start` has no {sorted(set(params) - known)}"
    return params


def _node_labels(labels: dict[str, str]) -> dict[str, str]:
    assert set(labels) == {POOL}, f"unknown labels {sorted(labels)}"
    assert labels[POOL] in POOLS, f"unknown pool {labels[POOL]}"
    return labels


@lru_cache(maxsize=64)
def _kubernetes(document: str) -> None:
    kubernetes_validate.validate(json.loads(document), KUBERNETES, strict=True)


Pod = Annotated[dict[str, Any], AfterValidator(_pod)]
StartParams = Annotated[dict[str, str], AfterValidator(_start_params)]
NodeLabels = Annotated[dict[str, str], AfterValidator(_node_labels)]


class Resources(Strict):
    requests: dict[Literal["cpu", "memory"], str]
    limits: dict[Literal["cpu", "memory"], str]


class Auth(Strict):
    mode: Literal["token"]
    secretName: str
    enableK8sTokenAuth: bool = False


class Capabilities(Strict):
    drop: list[str]


class ContainerSecurity(Strict):
    allowPrivilegeEscalation: Literal[False]
    capabilities: Capabilities


class AutoscalerOptions(Strict):
    version: Literal["v2"]
    upscalingMode: Literal["Default", "Aggressive", "Conservative"] = "Default"
    idleTimeoutSeconds: int = 60
    securityContext: ContainerSecurity
    resources: Resources


class HeadGroup(Strict):
    serviceType: Literal["ClusterIP"]
    labels: NodeLabels
    rayStartParams: StartParams
    template: Pod


class WorkerGroup(Strict):
    groupName: str
    labels: NodeLabels
    replicas: int = Field(ge=0)
    minReplicas: int = Field(ge=0)
    maxReplicas: int = Field(ge=1)
    idleTimeoutSeconds: int | None = None
    rayStartParams: StartParams
    template: Pod

    @model_validator(mode="after")
    def _fits(self) -> "WorkerGroup":
        assert self.minReplicas <= self.replicas <= self.maxReplicas
        assert self.labels[POOL] == self.groupName
        return self

    @property
    def limits(self) -> dict[str, Any]:
        limits: dict[str, Any] = self.template["spec"]["containers"][0]["resources"]["limits"]
        return limits


class RayClusterSpec(Strict):
    rayVersion: str
    enableInTreeAutoscaling: Literal[True]
    authOptions: Auth
    autoscalerOptions: AutoscalerOptions
    headGroupSpec: HeadGroup
    workerGroupSpecs: list[WorkerGroup]

    @model_validator(mode="after")
    def _names_differ(self) -> "RayClusterSpec":
        names = [group.groupName for group in self.workerGroupSpecs]
        assert len(names) == len(set(names))
        return self

    def group(self, name: str) -> WorkerGroup:
        return next(group for group in self.workerGroupSpecs if group.groupName == name)

    @property
    def templates(self) -> list[dict[str, Any]]:
        return [self.headGroupSpec.template, *(group.template for group in self.workerGroupSpecs)]


class SubmitterConfig(Strict):
    backoffLimit: int


class RayJobSpec(Strict):
    entrypoint: str
    entrypointResources: str
    backoffLimit: int
    shutdownAfterJobFinishes: Literal[True]
    ttlSecondsAfterFinished: int
    submitterConfig: SubmitterConfig
    submitterPodTemplate: Pod
    rayClusterSpec: RayClusterSpec


class UpgradeStrategy(Strict):
    type: Literal["NewCluster", "NewClusterWithIncrementalUpgrade", "None"]


def _serve_text(text: str) -> str:
    check_serve(yaml.safe_load(text))
    return text


class RayServiceSpec(Strict):
    upgradeStrategy: UpgradeStrategy
    rayClusterDeletionDelaySeconds: int
    excludeHeadPodFromServeSvc: bool
    serveConfigV2: Annotated[str, AfterValidator(_serve_text)]
    rayClusterConfig: RayClusterSpec


class Metadata(Strict):
    name: str
    namespace: Literal["reasonembed"]
    labels: dict[str, str] = {}


class Manifest(Strict):
    apiVersion: Literal["ray.io/v1"]
    metadata: Metadata


class RayCluster(Manifest):
    kind: Literal["RayCluster"]
    spec: RayClusterSpec


class RayJob(Manifest):
    kind: Literal["RayJob"]
    spec: RayJobSpec


class RayService(Manifest):
    kind: Literal["RayService"]
    spec: RayServiceSpec


# ---- Prometheus Operator


class Requirement(Strict):
    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]


class Selector(Strict):
    matchExpressions: list[Requirement]


class Relabeling(Strict):
    sourceLabels: list[str]
    targetLabel: str


class MetricsEndpoint(Strict):
    port: Literal["metrics"]
    interval: str
    relabelings: list[Relabeling]


class PodMonitorSpec(Strict):
    selector: Selector
    podMetricsEndpoints: list[MetricsEndpoint]


class PodMonitor(Strict):
    apiVersion: Literal["monitoring.coreos.com/v1"]
    kind: Literal["PodMonitor"]
    metadata: Metadata
    spec: PodMonitorSpec


TYPED = {kind.__name__: kind for kind in (RayCluster, RayJob, RayService, PodMonitor)}


def check_manifest(document: dict[str, Any]) -> Any:
    """A Kubernetes document as a typed object, or as it is where Kubernetes' own schema is all there is to say."""
    if (typed := TYPED.get(document["kind"])) is not None:
        return typed.model_validate(document)
    _kubernetes(json.dumps(document))
    return document


# ---- Ray Serve: its schema takes unknown keys, and a minimum above the maximum


def check_serve(written: dict[str, Any]) -> ServeDeploySchema:
    _only_known(ServeDeploySchema, written, "")
    schema = ServeDeploySchema.model_validate(written)
    for application in written["applications"]:
        assert application["import_path"] == "serve.app:build"
        args = ServeArgs.model_validate(application["args"])
        there = {"gateway", "encoder", *(f"shard-{number}" for number in range(args.search_shards))}
        for deployment in application.get("deployments", []):
            assert deployment["name"] in there
            if scaling := deployment.get("autoscaling_config"):
                _only_known(AutoscalingConfig, scaling, "autoscaling_config")
                assert scaling["min_replicas"] <= scaling["max_replicas"]
            if deployment["name"] == "gateway":
                Changeable.model_validate(deployment.get("user_config", {}))
    return schema


def _only_known(model: type[BaseModel], values: dict[str, Any], where: str) -> None:
    unknown = set(values) - set(model.model_fields)
    assert not unknown, f"Ray Serve reads no {sorted(unknown)} in {where or 'the file'}"
    for name, value in values.items():
        inner = next(iter(_models(model.model_fields[name].annotation)), None)
        for each in value if isinstance(value, list) else [value]:
            if inner is not None and isinstance(each, dict):
                _only_known(inner, each, f"{where}.{name}")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models(argument)


# ---- `ray up`


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
        _node_labels(kind["labels"])
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


# ---- typos

# Their keys are names that somebody chose, or paths.
FREE = {"annotations", "matchLabels", "nodeSelector", "data", "file_mounts", "available_node_types", "metadata.labels"}


def typos(document: Any) -> Iterator[tuple[str, Any]]:
    """The document with one key misspelt, for every key in it."""
    for place in _keys(document, ()):
        wrong = copy.deepcopy(document)
        holder = wrong
        for step in place[:-1]:
            holder = holder[step]
        holder[f"{place[-1]}x"] = holder.pop(place[-1])
        yield ".".join(map(str, place)), wrong


def refused(check: Any, written: Any) -> bool:
    try:
        check(written)
    except Exception:  # noqa: BLE001 -- each reader has its own
        return True
    return False


def _keys(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, list):
        for number, each in enumerate(value):
            yield from _keys(each, (*path, number))
    elif isinstance(value, dict):
        for key, each in value.items():
            if not (set(path[-1:]) & FREE or ".".join(map(str, path[-2:])) in FREE):
                yield (*path, key)
            yield from _keys(each, (*path, key))
