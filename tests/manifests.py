"""Checks of Kubernetes manifests, as Kubernetes, KubeRay and the Prometheus operator make them, without these programs.

Unknown keys, values of the wrong type and contradictory numbers are rejected.
"""

import json
from functools import lru_cache
from typing import Annotated, Any, Literal

import kubernetes_validate
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from ray.scripts.scripts import start as ray_start
from serve_configs import check_serve

from reasonembed.config.resources import POOL

KUBERNETES = "1.34"
POOLS = {"head", "cpu", "gpu-spot", "gpu-train", "serve"}
RESOURCES = {"cpu", "memory", "nvidia.com/gpu"}


class Strict(BaseModel):
    """A model that rejects unknown keys."""

    model_config = ConfigDict(extra="forbid")


# ---- KubeRay: fields of the ray.io/v1 reference, release 1.6


def _pod(template: dict[str, Any]) -> dict[str, Any]:
    assert set(template) <= {"metadata", "spec"}, f"unknown keys in a pod template: {sorted(template)}"
    metadata = {"name": "pod", **template.get("metadata", {})}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    _validate_kubernetes(json.dumps(pod))
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


def check_node_labels(labels: dict[str, str]) -> dict[str, str]:
    """Checks that the labels of a Ray node name a known pool and nothing else; returns them."""
    assert set(labels) == {POOL}, f"unknown labels {sorted(labels)}"
    assert labels[POOL] in POOLS, f"unknown pool {labels[POOL]}"
    return labels


@lru_cache(maxsize=64)
def _validate_kubernetes(document: str) -> None:
    kubernetes_validate.validate(json.loads(document), KUBERNETES, strict=True)


Pod = Annotated[dict[str, Any], AfterValidator(_pod)]
StartParams = Annotated[dict[str, str], AfterValidator(_start_params)]
NodeLabels = Annotated[dict[str, str], AfterValidator(check_node_labels)]


class ContainerResources(Strict):
    """``resources`` of a container."""

    requests: dict[Literal["cpu", "memory"], str]
    limits: dict[Literal["cpu", "memory"], str]


class Auth(Strict):
    """``authOptions`` of a cluster."""

    mode: Literal["token"]
    secretName: str
    enableK8sTokenAuth: bool = False


class Capabilities(Strict):
    """``capabilities`` of a container's security context."""

    drop: list[str]


class ContainerSecurity(Strict):
    """``securityContext`` of a container."""

    allowPrivilegeEscalation: Literal[False]
    capabilities: Capabilities


class AutoscalerOptions(Strict):
    """``autoscalerOptions`` of a cluster."""

    version: Literal["v2"]
    upscalingMode: Literal["Default", "Aggressive", "Conservative"] = "Default"
    idleTimeoutSeconds: int = 60
    securityContext: ContainerSecurity
    resources: ContainerResources


class HeadGroup(Strict):
    """``headGroupSpec`` of a cluster."""

    serviceType: Literal["ClusterIP"]
    labels: NodeLabels
    rayStartParams: StartParams
    template: Pod


class WorkerGroup(Strict):
    """An item of ``workerGroupSpecs``."""

    groupName: str
    labels: NodeLabels
    replicas: int = Field(ge=0)
    minReplicas: int = Field(ge=0)
    maxReplicas: int = Field(ge=1)
    idleTimeoutSeconds: int | None = None
    rayStartParams: StartParams
    template: Pod

    @model_validator(mode="after")
    def _check_replicas_and_pool(self) -> "WorkerGroup":
        assert self.minReplicas <= self.replicas <= self.maxReplicas
        assert self.labels[POOL] == self.groupName
        return self

    @property
    def limits(self) -> dict[str, Any]:
        """Resource limits of the group's container."""
        limits: dict[str, Any] = self.template["spec"]["containers"][0]["resources"]["limits"]
        return limits


class RayClusterSpec(Strict):
    """``spec`` of a RayCluster."""

    rayVersion: str
    enableInTreeAutoscaling: Literal[True]
    authOptions: Auth
    autoscalerOptions: AutoscalerOptions
    headGroupSpec: HeadGroup
    workerGroupSpecs: list[WorkerGroup]

    @model_validator(mode="after")
    def _check_unique_names(self) -> "RayClusterSpec":
        names = [group.groupName for group in self.workerGroupSpecs]
        assert len(names) == len(set(names))
        return self

    def group(self, name: str) -> WorkerGroup:
        """Returns the worker group of this name."""
        return next(group for group in self.workerGroupSpecs if group.groupName == name)

    @property
    def templates(self) -> list[dict[str, Any]]:
        """Pod templates of the head and all worker groups."""
        return [self.headGroupSpec.template, *(group.template for group in self.workerGroupSpecs)]


class SubmitterConfig(Strict):
    """``submitterConfig`` of a job."""

    backoffLimit: int


class RayJobSpec(Strict):
    """``spec`` of a RayJob."""

    entrypoint: str
    entrypointResources: str
    backoffLimit: int
    shutdownAfterJobFinishes: Literal[True]
    ttlSecondsAfterFinished: int
    submitterConfig: SubmitterConfig
    submitterPodTemplate: Pod
    rayClusterSpec: RayClusterSpec


class UpgradeStrategy(Strict):
    """``upgradeStrategy`` of a service."""

    type: Literal["NewCluster", "NewClusterWithIncrementalUpgrade", "None"]


def _check_serve_yaml(text: str) -> str:
    check_serve(yaml.safe_load(text))
    return text


class RayServiceSpec(Strict):
    """``spec`` of a RayService."""

    upgradeStrategy: UpgradeStrategy
    rayClusterDeletionDelaySeconds: int
    excludeHeadPodFromServeSvc: bool
    serveConfigV2: Annotated[str, AfterValidator(_check_serve_yaml)]
    rayClusterConfig: RayClusterSpec


class Metadata(Strict):
    """``metadata`` of our manifests."""

    name: str
    namespace: Literal["reasonembed"]
    labels: dict[str, str] = {}


class Manifest(Strict):
    """Fields that all of KubeRay's resources have."""

    apiVersion: Literal["ray.io/v1"]
    metadata: Metadata


class RayCluster(Manifest):
    """KubeRay's resource for a cluster."""

    kind: Literal["RayCluster"]
    spec: RayClusterSpec


class RayJob(Manifest):
    """KubeRay's resource for a job with a cluster of its own."""

    kind: Literal["RayJob"]
    spec: RayJobSpec


class RayService(Manifest):
    """KubeRay's resource for an endpoint."""

    kind: Literal["RayService"]
    spec: RayServiceSpec


# ---- Prometheus operator


class Requirement(Strict):
    """An item of ``matchExpressions``."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]


class Selector(Strict):
    """``selector`` of a monitor."""

    matchExpressions: list[Requirement]


class Relabeling(Strict):
    """An item of ``relabelings``."""

    sourceLabels: list[str]
    targetLabel: str


class MetricsEndpoint(Strict):
    """An item of ``podMetricsEndpoints``."""

    port: Literal["metrics"]
    interval: str
    relabelings: list[Relabeling]


class PodMonitorSpec(Strict):
    """``spec`` of a PodMonitor."""

    selector: Selector
    podMetricsEndpoints: list[MetricsEndpoint]


class PodMonitor(Strict):
    """The Prometheus operator's resource for the metrics of pods."""

    apiVersion: Literal["monitoring.coreos.com/v1"]
    kind: Literal["PodMonitor"]
    metadata: Metadata
    spec: PodMonitorSpec


MODELS = {model.__name__: model for model in (RayCluster, RayJob, RayService, PodMonitor)}


def check_manifest(document: dict[str, Any]) -> Any:
    """Checks a Kubernetes document; returns it as an object of its class above, or unchanged if there is no class.

    A document without a class is checked by Kubernetes' own schema.
    """
    if (model := MODELS.get(document["kind"])) is not None:
        return model.model_validate(document)
    _validate_kubernetes(json.dumps(document))
    return document
