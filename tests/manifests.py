"""What Kubernetes, KubeRay and Prometheus' operator would say to a file of ours, as far as it can be known without
them: a key that nobody reads, a value of the wrong type, and numbers that do not fit are refused."""

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


def check_node_labels(labels: dict[str, str]) -> dict[str, str]:
    assert set(labels) == {POOL}, f"unknown labels {sorted(labels)}"
    assert labels[POOL] in POOLS, f"unknown pool {labels[POOL]}"
    return labels


@lru_cache(maxsize=64)
def _kubernetes(document: str) -> None:
    kubernetes_validate.validate(json.loads(document), KUBERNETES, strict=True)


Pod = Annotated[dict[str, Any], AfterValidator(_pod)]
StartParams = Annotated[dict[str, str], AfterValidator(_start_params)]
NodeLabels = Annotated[dict[str, str], AfterValidator(check_node_labels)]


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
