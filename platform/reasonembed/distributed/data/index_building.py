"""The stage ``index`` on Ray: builds the shards in parallel, then the BM25 weights, and measures the recall."""

from dataclasses import replace
from typing import Any

from reasonembed import storage
from reasonembed.distributed.cluster import run_all, run_remote
from reasonembed.retrieval.index_files import BM25_FOLDER, shard_folder
from reasonembed.retrieval.index_job import IndexJob, build_bm25, build_shard
from reasonembed.retrieval.index_recall import measure_index


def build_served_index(job: IndexJob, uri: str) -> dict[str, Any]:
    """Builds all parts of an index that an interrupted run has not finished, copies them and returns the figures.

    An index has at most one shard per document; a corpus with fewer documents than ``index.shards`` gets one shard.

    Args:
        job: its ``uri`` is a scratch folder, in which an interrupted run has left its parts.
        uri: of the artifact's data.

    Raises:
        UserError: an embedding is not finite, or the vectors or the device do not suit ``index.kind``.
    """
    if job.settings.shards > job.corpus.figures["rows"]:
        job = replace(job, settings=job.settings.model_copy(update={"shards": 1}))
    missing = [shard for shard in range(job.settings.shards) if not _is_finished(job, shard_folder(shard))]
    run_all(_build_shard, [(job, shard) for shard in missing], job.resources)
    if job.settings.bm25 and not _is_finished(job, BM25_FOLDER):
        run_remote(_build_bm25, job)
    figures = dict(run_remote(measure_index, job, resources=job.resources))
    run_remote(storage.copy_tree, job.uri, uri)
    return figures


def _build_shard(job: IndexJob, shard: int) -> None:
    build_shard(job, shard)
    _mark_finished(job, shard_folder(shard))


def _build_bm25(job: IndexJob) -> None:
    build_bm25(job)
    _mark_finished(job, BM25_FOLDER)


def _is_finished(job: IndexJob, part: str) -> bool:
    return storage.exists(_marker(job, part))


def _mark_finished(job: IndexJob, part: str) -> None:
    storage.write_bytes(_marker(job, part), b"")


def _marker(job: IndexJob, part: str) -> str:
    """Returns the URI of the empty file that exists once a part is written whole."""
    return storage.join(job.uri, f".{part}.done")
