"""The index kinds that FAISS implements: how each is created, and how a search in it is parameterised.

Sources: inverted lists and product quantisation from Jégou et al., TPAMI 2011; the HNSW graph from Malkov and
Yashunin, TPAMI 2020; their implementation from Douze et al., "The Faiss library", arXiv 2401.08281.
"""

import math
from typing import Any

import faiss

from reasonembed.config import Index
from reasonembed.errors import UserError
from reasonembed.retrieval.faiss_gpu import GpuSupport
from reasonembed.retrieval.faiss_index import FaissKind

# FAISS asks for this many training vectors per centroid. Codes of 8 bits have 256 centroids.
POINTS_PER_CENTROID, CENTROIDS_PER_CODE = 39, 256


def _new_flat(documents: int, dimension: int, settings: Index) -> faiss.Index:
    return faiss.IndexFlatIP(dimension)


def _new_ivf(documents: int, dimension: int, settings: Index) -> faiss.Index:
    lists = _list_count(documents, settings)
    return faiss.IndexIVFFlat(faiss.IndexFlatIP(dimension), dimension, lists, faiss.METRIC_INNER_PRODUCT)


def _new_hnsw(documents: int, dimension: int, settings: Index) -> faiss.Index:
    index = faiss.IndexHNSWFlat(dimension, settings.links, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = settings.ef_construction
    return index


def _new_ivf_pq(documents: int, dimension: int, settings: Index) -> faiss.Index:
    if documents < CENTROIDS_PER_CODE:
        raise UserError(
            f"index.kind ivf-pq needs {CENTROIDS_PER_CODE} documents per shard to learn its codes, and a shard has "
            f"only {documents}; set index.kind to flat or hnsw"
        )
    lists = _list_count(documents, settings)
    code_bytes = next(size for size in range(min(settings.pq_bytes, dimension), 0, -1) if dimension % size == 0)
    metric = faiss.METRIC_INNER_PRODUCT
    return faiss.IndexIVFPQ(faiss.IndexFlatIP(dimension), dimension, lists, code_bytes, 8, metric)


def _list_count(documents: int, settings: Index) -> int:
    """Returns the number of inverted lists: the configured one, limited by the number of training vectors."""
    limit = max(1, min(documents, settings.training_vectors) // POINTS_PER_CENTROID)
    return min(settings.lists or round(4 * math.sqrt(documents)), limit)


def _flat_parameters(settings: Index, **selector: Any) -> Any:
    return faiss.SearchParameters(**selector)


def _ivf_parameters(settings: Index, **selector: Any) -> Any:
    return faiss.SearchParametersIVF(nprobe=settings.probes, **selector)  # type: ignore[call-arg]


def _hnsw_parameters(settings: Index, **selector: Any) -> Any:
    return faiss.SearchParametersHNSW(efSearch=settings.ef_search, **selector)  # type: ignore[attr-defined]


FLAT = FaissKind("flat", _new_flat, _flat_parameters, GpuSupport(builds=False, takes_parameters=False))
IVF = FaissKind("ivf", _new_ivf, _ivf_parameters, GpuSupport())
HNSW = FaissKind("hnsw", _new_hnsw, _hnsw_parameters, gpu=None, scans_small_subsets=True)
# Lookup tables of more than 48 bytes per vector fit into the memory of a kernel only in half precision.
IVF_PQ = FaissKind("ivf-pq", _new_ivf_pq, _ivf_parameters, GpuSupport(half_precision_tables=True))
