"""Assembly over Ray Data: pairs are grouped by query, a group becomes a training row."""

from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray

from reasonembed import schemas, storage
from reasonembed.artifacts import SCRATCH, Artifact
from reasonembed.compaction import compact
from reasonembed.config import Config
from reasonembed.distributed.cluster import read_rows, run_remote, start_ray
from reasonembed.distributed.data.row_stage import pool_of
from reasonembed.distributed.data.workers import AssembleGroup
from reasonembed.distributed.placement import default_resources
from reasonembed.errors import JobFailed

UNGRADED = "no graded pair"


def assemble_rows(
    config: Config, corpus: Artifact, queries: Artifact, rewrites: Artifact, annotations: Artifact, uri: str
) -> dict[str, Any]:
    """Write ``schemas.TRAINING`` below ``uri``; queries without a positive or a negative stay in it as rejects."""
    start_ray()
    storage.delete_tree(uri)
    folder = storage.join(uri, SCRATCH, "rows-0")
    fs, _ = storage.open_filesystem(uri)
    make = partial(AssembleGroup, config.assemble, corpus, queries, rewrites)
    half = default_resources().model_copy(update={"cpus": 0.5})  # the actors that group need CPUs beside them
    pool = pool_of(make, config.run.actors, half, [corpus, queries, rewrites])
    columns = ["query_id", "doc_id", "grade", "score", "reject_reason"]
    pairs = read_rows(annotations.parquet(), columns=columns)
    pairs.filter(expr=ray.data.expressions.col("reject_reason").is_null()).groupby(
        "query_id", num_partitions=config.run.actors
    ).map_groups(batch_format="pyarrow", **pool).write_parquet(
        storage.open_filesystem(folder)[1], filesystem=fs, compression="zstd"
    )
    scratch = [storage.join(folder, name) for name in storage.list_files(folder)]
    run_remote(compact, scratch, queries.parquet(), "query_id", schemas.TRAINING, uri)
    files = [storage.join(uri, name) for name in storage.list_files(uri)]
    reasons = storage.read_table(files, pa.schema([schemas.TRAINING.field("reject_reason")]))["reject_reason"]
    rejects = {entry["values"]: entry["counts"] for entry in pc.drop_null(reasons).value_counts().to_pylist()}
    if ungraded := int(queries.figures["rows"]) - len(reasons):
        rejects[UNGRADED] = ungraded
    rows = reasons.null_count
    if rows == 0:
        # Not run.max_reject_fraction: that a query lacks a positive is a finding about the corpus, no failure.
        raise JobFailed(
            f"assemble: no query has both a positive and a negative ({rejects}); see assemble.positive_grade"
        )
    return {"rows": rows, "rejects": rejects}
