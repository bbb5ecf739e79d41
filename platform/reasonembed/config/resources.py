"""The resources of each kind of work: CPUs, GPUs, and the pool of nodes on which it runs."""

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from reasonembed.config.section import RESOURCES, Affects, Section

POOL = "ray-subcluster"
"""The label of Ray nodes that names their pool; the files in ``cluster/`` set it. Ray Data knows this name: with it, it
requests machines of the same pool from the autoscaler, and counts only those as its own."""


class Resources(Section):
    """Resources that one worker of a kind of work requests from Ray."""

    affects: ClassVar[Affects] = RESOURCES

    cpus: float = Field(1, ge=0)
    """Number of CPUs; fractions are allowed."""
    gpus: float = Field(0, ge=0)
    """Number of GPUs; with 0 the work runs on CPUs."""
    pool: str | None = None
    """Pool of nodes: those with this value of the label ``ray-subcluster``; any node when left out."""

    @property
    def device(self) -> str:
        """``cuda`` or ``cpu``."""
        return "cuda" if self.gpus else "cpu"

    @property
    def labels(self) -> dict[str, str]:
        """Label selector for Ray; empty without a pool."""
        return {POOL: self.pool} if self.pool else {}

    @property
    def bundle(self) -> dict[str, float]:
        """Bundle of a Ray placement group."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})

    @property
    def options(self) -> dict[str, Any]:
        """Options for ``ray.remote``."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus or None, "label_selector": self.labels or None}


Work = Literal["data", "encode", "llm", "train", "index", "serve", "search"]

ANY_CPU, ANY_GPU = {"cpus": 1.0}, {"cpus": 1.0, "gpus": 1.0}
HALF_CPU = {"cpus": 0.5}
PROFILES: dict[str, dict[Work, dict[str, Any]]] = {
    "laptop": {
        "data": ANY_CPU,
        "encode": ANY_CPU,
        # An engine on CPUs uses all cores, whatever it requests; half a CPU leaves CPUs for the other actors.
        "llm": HALF_CPU,
        "train": ANY_CPU,
        "index": ANY_CPU,
        "serve": ANY_CPU,
        "search": HALF_CPU,
    },
    "single-gpu": {
        "data": ANY_CPU,
        "encode": ANY_GPU,
        "llm": ANY_GPU,
        "train": ANY_GPU,
        "index": ANY_CPU,
        "serve": ANY_GPU,
        "search": HALF_CPU,
    },
    "gpu-cluster": {
        "data": ANY_CPU | {"pool": "cpu"},
        "encode": ANY_GPU | {"pool": "gpu-spot"},
        "llm": ANY_GPU | {"pool": "gpu-spot"},
        "train": ANY_GPU | {"pool": "gpu-train"},
        "index": ANY_CPU | {"pool": "cpu"},
        "serve": ANY_GPU | {"pool": "serve"},
        "search": HALF_CPU | {"pool": "serve"},
    },
}


class Cluster(Section):
    """Resources of each kind of work: those of the profile, in which single values can be replaced."""

    affects: ClassVar[Affects] = RESOURCES

    profile: Literal["laptop", "single-gpu", "gpu-cluster"] = "laptop"
    """``laptop``: everything on CPUs. ``single-gpu``: models on GPUs of any machine. ``gpu-cluster``: each kind of work
    in the pool that the files in ``cluster/`` define for it."""
    data: Resources = Resources()
    """A worker that reads, mines, joins or evaluates, and a job's own process."""
    encode: Resources = Resources()
    """A worker that encodes documents and questions."""
    llm: Resources = Resources()
    """An engine of ``llm.engine: vllm``. With ``llm.tensor_parallel`` an engine requests these resources once per
    GPU."""
    train: Resources = Resources()
    """A worker (rank) of training."""
    index: Resources = Resources()
    """A worker that builds a shard of the index. With a GPU, ``ivf`` and ``ivf-pq`` are trained and filled on it."""
    serve: Resources = Resources()
    """A replica of the model in the endpoint that ``jobs/serve.py`` starts."""
    search: Resources = Resources(cpus=0.5)
    """One of the ``serve.search_shards`` processes of the endpoint that hold the index. With a GPU they search on it,
    except when a search is restricted to a task or excludes documents."""

    @model_validator(mode="before")
    @classmethod
    def _apply_profile(cls, values: Any) -> Any:
        if not isinstance(values, dict) or (profile := PROFILES.get(values.get("profile", "laptop"))) is None:
            return values  # the field's own validation reports it
        # A dict (from a file) replaces single values of the profile; a `Resources` object (from code) replaces all.
        resources = {
            kind: {**defaults, **configured} if isinstance(configured := values.get(kind) or {}, dict) else configured
            for kind, defaults in profile.items()
        }
        return {**values, **resources}
