"""Where on a cluster each kind of work runs, and what one worker of it asks Ray for."""

from typing import Any, Literal

from pydantic import Field, model_validator

from reasonembed.config.section import Section

POOL = "ray-subcluster"
"""The label of Ray nodes by which work finds its machines; the files in ``cluster/`` set it. Of all names it is the one
by which Ray Data asks an autoscaler for machines of the same kind, and counts only those as its own."""


class Resources(Section):
    """What one worker of a kind of work asks Ray for."""

    cpus: float = Field(1, ge=0)
    gpus: float = Field(0, ge=0)
    """0: it works on CPUs."""
    pool: str | None = None
    """Only nodes that carry the label ``ray-subcluster`` with this value; any node when left out."""

    @property
    def device(self) -> str:
        return "cuda" if self.gpus else "cpu"

    @property
    def labels(self) -> dict[str, str]:
        """As Ray's ``label_selector``."""
        return {POOL: self.pool} if self.pool else {}

    @property
    def bundle(self) -> dict[str, float]:
        """As Ray's placement groups count."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})

    @property
    def options(self) -> dict[str, Any]:
        """For ``ray.remote``."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus or None, "label_selector": self.labels or None}


Work = Literal["data", "encode", "llm", "train", "index", "serve", "search"]

ANY_CPU, ANY_GPU = {"cpus": 1.0}, {"cpus": 1.0, "gpus": 1.0}
HALF_CPU = {"cpus": 0.5}
PROFILES: dict[str, dict[Work, dict[str, Any]]] = {
    "laptop": {
        "data": ANY_CPU,
        "encode": ANY_CPU,
        # An engine on CPUs uses all cores there are, whatever it asks for; half a CPU leaves room for the rest.
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
    """Where work runs. A profile fills in every place; of a place that is named here, what is named changes."""

    profile: Literal["laptop", "single-gpu", "gpu-cluster"] = "laptop"
    """``laptop``: CPUs. ``single-gpu``: models on GPUs, of any machine that has some. ``gpu-cluster``: each kind of
    work in the pool that the files in ``cluster/`` make for it."""
    data: Resources = Resources()
    """Reading, mining, joining, measuring; also a job's own process."""
    encode: Resources = Resources()
    """Documents and questions to vectors."""
    llm: Resources = Resources()
    """An engine of ``llm.engine: vllm`` (of one GPU; ``llm.tensor_parallel`` takes as many times more)."""
    train: Resources = Resources()
    """A rank of training."""
    index: Resources = Resources()
    """Building a shard of the index. With a GPU, ``ivf`` and ``ivf-pq`` learn and sort on it."""
    serve: Resources = Resources()
    """An encoder of the endpoint that ``jobs/serve.py`` starts."""
    search: Resources = Resources(cpus=0.5)
    """A process of the endpoint that holds a part of the index, of which ``serve.search_shards`` are started. With a
    GPU its searches are there, but for those among some documents only (a task's, or not certain ones)."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        if not isinstance(values, dict) or (profile := PROFILES.get(values.get("profile", "laptop"))) is None:
            return values  # said by the field's own check
        # A place that was built in code is whole; one from a file changes what it names.
        places = {
            work: {**place, **given} if isinstance(given := values.get(work) or {}, dict) else given
            for work, place in profile.items()
        }
        return {**values, **places}
