"""The stage ``mine`` on Ray Data: a pool of workers that each hold the corpus and its vectors."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from reasonembed import schemas
from reasonembed.config import Mine, Run
from reasonembed.distributed.data.row_stage import RowStage, row_figures, run_row_stage
from reasonembed.distributed.data.worker_cache import Worker
from reasonembed.distributed.data.worker_pool import worker_pool
from reasonembed.remixer.mine import DenseRetriever, mine_candidates
from reasonembed.retrieval.embedded_corpus import EmbeddedCorpus


def mine_queries(queries: str, corpora: Sequence[EmbeddedCorpus], settings: Mine, run: Run, uri: str) -> dict[str, Any]:
    """Writes ``schemas.CANDIDATES`` below ``uri``.

    Args:
        queries: file with the accepted rows of ``schemas.QUERIES``.
        corpora: the corpus with the vectors of each dense retriever.
        settings: of the stage.
        run: number of workers and block size.
        uri: of the artifact.

    Returns:
        Figures for the artifact's record.
    """
    reads = [corpora[0].corpus, *(corpus.embeddings for corpus in corpora)]
    pool = worker_pool(partial(mining_worker, settings, corpora), schemas.CANDIDATES, run.actors, reads=reads)
    stage = RowStage("mine", schemas.CANDIDATES, "query_id", run.rows_per_block, then_by="rank")
    run_row_stage(stage, pool, [queries], uri)
    return row_figures("mine", uri, run, schemas.CANDIDATES)


def mining_worker(settings: Mine, corpora: Sequence[EmbeddedCorpus]) -> Worker:
    """Returns a worker from ``schemas.QUERIES`` to ``schemas.CANDIDATES``."""
    retrievers = [
        DenseRetriever(corpus.name, corpus.load_collections(), corpus.load_query_encoder()) for corpus in corpora
    ]
    return partial(mine_candidates, retrievers=retrievers, config=settings)
