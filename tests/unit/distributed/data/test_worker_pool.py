import pyarrow as pa
import pytest

from reasonembed.artifacts import Artifact
from reasonembed.config import Resources
from reasonembed.distributed.data.worker_cache import CachedWorker
from reasonembed.distributed.data.worker_pool import SMALL_BYTES, ActorWorker, SchemaWorker, pool_options


def make_worker():
    return lambda batch: batch


@pytest.mark.parametrize(
    ("resources", "read_bytes", "actors"),
    [
        (Resources(), 1000, None),
        (Resources(cpus=0.5, pool="cpu"), 1000, None),
        (Resources(), SMALL_BYTES, None),
        (Resources(), SMALL_BYTES + 1, (3, 3)),
        (Resources(cpus=4), 0, (3, 3)),
        (Resources(gpus=1), 0, (1, 3)),
    ],
)
def test_a_large_worker_is_an_actor_and_a_small_one_a_task(resources, read_bytes, actors):
    files = [{"path": "part-00000.parquet", "size": read_bytes, "sha256": ""}]
    pool = pool_options(make_worker, 3, resources, [Artifact("somewhere", {"files": files})])
    compute = pool["compute"]
    if actors is None:
        assert isinstance(pool["fn"], CachedWorker)
        assert compute.size == 3
    else:
        assert pool["fn"] is ActorWorker
        assert pool["fn_constructor_args"] == (make_worker,)
        assert (compute.min_size, compute.max_size) == actors
    assert (pool["num_cpus"], pool["num_gpus"]) == (resources.cpus, resources.gpus or None)


def test_the_sizes_of_all_artifacts_count_together():
    files = [{"path": "part-00000.parquet", "size": SMALL_BYTES // 2 + 1, "sha256": ""}]
    artifact = Artifact("somewhere", {"files": files})
    assert isinstance(pool_options(make_worker, 1, Resources(), [artifact])["fn"], CachedWorker)
    assert pool_options(make_worker, 1, Resources(), [artifact, artifact])["fn"] is ActorWorker


def test_rows_are_cast_to_the_schema():
    schema = pa.schema([("id", pa.string()), ("reason", pa.string())])

    def nameless_rows():
        return lambda batch: pa.table({"more": [1], "reason": pa.nulls(1), "id": ["a"]})

    table = SchemaWorker(nameless_rows, schema)(pa.table({}))
    assert table.schema == schema
    assert table.to_pylist() == [{"id": "a", "reason": None}]


def test_an_actor_builds_its_worker_once():
    built = []

    def counting():
        built.append("worker")
        return lambda batch: batch

    worker = ActorWorker(counting)
    batch = pa.table({"x": [1]})
    assert worker(batch) is batch
    assert worker(batch) is batch
    assert built == ["worker"]
