"""The stage ``assemble`` on Ray Data: pairs are grouped by query, and each group becomes a training row."""

from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray

from reasonembed import schemas, storage
from reasonembed.artifacts import Artifact, scratch_uri
from reasonembed.compaction import compact
from reasonembed.config import Assemble, Run
from reasonembed.distributed.cluster import run_remote, start_ray
from reasonembed.distributed.data.datasets import read_rows
from reasonembed.distributed.data.worker_pool import pool_options
from reasonembed.distributed.default_resources import default_resources
from reasonembed.errors import JobFailed
from reasonembed.remixer.assemble import assemble_query
from reasonembed.remixer.queries import queries_by_id
from reasonembed.retrieval.embedded_corpus import load_text_collections

NO_GRADED_PAIR = "no graded pair"


class AssemblyWorker:
    """Makes one training row of all pairs of a query.

    Args:
        settings: of the stage.
        corpus: ``schemas.CORPUS``.
        queries: ``schemas.QUERIES``.
        rewrites: ``schemas.REWRITES``.
    """

    def __init__(self, settings: Assemble, corpus: Artifact, queries: Artifact, rewrites: Artifact) -> None:
        self._settings = settings
        self._collections = load_text_collections(corpus)
        self._queries = queries_by_id(queries)
        table = rewrites.table(schemas.REWRITES)
        self._rewrites = dict(zip(table["query_id"].to_pylist(), table["reasoning_query"].to_pylist(), strict=True))

    def __call__(self, pairs: pa.Table) -> pa.Table:
        """Returns one row of ``schemas.TRAINING``."""
        query = self._queries[pairs["query_id"][0].as_py()]
        rewrite = self._rewrites.get(query["query_id"])
        row = assemble_query(pairs, query, rewrite, self._collections[query["task"]], self._settings)
        return pa.Table.from_pylist([row], schema=schemas.TRAINING)


def assemble_rows(
    corpus: Artifact,
    queries: Artifact,
    rewrites: Artifact,
    annotations: Artifact,
    settings: Assemble,
    run: Run,
    uri: str,
) -> dict[str, Any]:
    """Writes ``schemas.TRAINING`` below ``uri``; queries without a positive or a negative are in it as rejected rows.

    Returns:
        Figures for the artifact's record.

    Raises:
        JobFailed: no query has both a positive and a negative.
    """
    start_ray()
    folder = scratch_uri(uri, "rows-0")
    storage.delete_tree(folder)  # a shuffle cannot be resumed; rows of an interrupted one must not count twice
    filesystem, _ = storage.open_filesystem(uri)
    make_worker = partial(AssemblyWorker, settings, corpus, queries, rewrites)
    half = default_resources().model_copy(update={"cpus": 0.5})  # the actors of the shuffle need CPUs at the same time
    pool = pool_options(make_worker, run.actors, half, [corpus, queries, rewrites])
    columns = ["query_id", "doc_id", "grade", "score", "reject_reason"]
    pairs = read_rows(annotations.parquet(), columns=columns)
    pairs.filter(expr=ray.data.expressions.col("reject_reason").is_null()).groupby(
        "query_id", num_partitions=run.actors
    ).map_groups(batch_format="pyarrow", **pool).write_parquet(
        storage.open_filesystem(folder)[1], filesystem=filesystem, compression="zstd"
    )
    scratch = [storage.join(folder, name) for name in storage.list_files(folder)]
    run_remote(compact, scratch, queries.parquet(), "query_id", schemas.TRAINING, uri)
    return _figures(int(queries.figures["rows"]), uri)


def _figures(queries: int, uri: str) -> dict[str, Any]:
    files = [storage.join(uri, name) for name in storage.list_files(uri)]
    reasons = storage.read_table(files, pa.schema([schemas.TRAINING.field("reject_reason")]))["reject_reason"]
    rejects = {entry["values"]: entry["counts"] for entry in pc.drop_null(reasons).value_counts().to_pylist()}
    if ungraded := queries - len(reasons):
        rejects[NO_GRADED_PAIR] = ungraded
    rows = reasons.null_count
    if rows == 0:
        # run.max_reject_fraction does not apply: a query without a positive is a finding about the corpus, no failure.
        raise JobFailed(
            f"assemble: no query has both a positive and a negative ({rejects}); see assemble.positive_grade"
        )
    return {"rows": rows, "rejects": rejects}
