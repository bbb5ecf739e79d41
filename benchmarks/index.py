"""Measures the cost and the recall of every index kind on synthetic vectors, in one command:

    python benchmarks/index.py [--vectors 1000000] [--dimension 384] [--kinds flat ivf hnsw ivf-pq] [--device cuda]

The vectors are unit vectors around the centres of clusters, like texts around topics; queries are sampled in the same
way. Recall@10 is the share of a query's ten nearest vectors, by exact search, that the index returns. Every index is
built in its own process by ``retrieval.index_kinds.build_index`` with the default configuration, and searched one query
at a time, as by the endpoint, on all cores.
"""

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from rich.console import Console
from rich.table import Table

from reasonembed.config import Index
from reasonembed.retrieval.index_kinds import build_index, open_index
from reasonembed.retrieval.sharded_index import ShardedIndex

QUERIES, NEIGHBOURS = 1000, 10
NOISE = 1.2  # length of the noise relative to a centre; neighbours are a part of one cluster
SEARCH_SETTINGS: dict[str, list[dict[str, int]]] = {
    "flat": [{}],
    "ivf": [{"probes": probes} for probes in (16, 64)],
    "hnsw": [{"ef_search": ef_search} for ef_search in (64, 256)],
    "ivf-pq": [{"probes": probes} for probes in (16, 64)],
}


def main() -> None:
    """Prints the table for the index kinds of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=1_000_000, help="number of vectors")
    parser.add_argument("--dimension", type=int, default=384, help="dimension of the vectors")
    parser.add_argument("--kinds", nargs="+", default=list(SEARCH_SETTINGS), help="values of index.kind")
    parser.add_argument(
        "--device",
        choices=["cpu", "cuda"],
        default="cpu",
        help="device of building and searching; cuda does not support hnsw",
    )
    arguments = parser.parse_args()
    console = Console(stderr=True)
    hardware = f"{os.cpu_count()} cores" if arguments.device == "cpu" else "a GPU"
    table = Table(title=f"{arguments.vectors:,} vectors of {arguments.dimension} dimensions, {hardware}")
    for name in ("kind", "search", "recall@10", "queries/s", "build s", "file GiB", "peak GiB of building"):
        table.add_column(name, justify="left" if name in ("kind", "search") else "right")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        queries = _write_vectors(arguments.vectors, arguments.dimension, folder)
        exact: np.ndarray | None = None
        for kind in dict.fromkeys(["flat", *arguments.kinds]):
            cost = _build_in_process(kind, folder, arguments.device)
            for options in SEARCH_SETTINGS[kind]:
                settings = Index.model_validate({"kind": kind, **options})
                index = ShardedIndex([open_index(folder / kind, settings, arguments.device)])
                positions, rate = _search(index, queries)
                del index  # frees the memory of the GPU
                exact = positions if exact is None else exact
                recall = np.mean([len(set(a) & set(b)) / NEIGHBOURS for a, b in zip(exact, positions, strict=True)])
                search = ", ".join(f"{option} {value}" for option, value in options.items()) or "all vectors"
                columns = (f"{cost['seconds']:.0f}", f"{cost['bytes'] / (1 << 30):.2f}", f"{cost['peak_gib']:.2f}")
                table.add_row(kind, search, f"{recall:.3f}", f"{rate:.0f}", *columns)
                console.print(f"{kind}, {search}: recall {recall:.3f}, {rate:.0f} queries/s, {cost['seconds']:.0f} s")
            (folder / kind).unlink()
    Console(width=110).print(table)


def _write_vectors(count: int, dimension: int, folder: Path) -> np.ndarray:
    """Writes ``vectors.npy`` and returns the queries."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(10, count // 200), dimension), np.float32)

    def sample_vectors(number: int) -> np.ndarray:
        noise = NOISE * rng.standard_normal((number, dimension), np.float32)
        points = centres[rng.integers(0, len(centres), number)] + noise
        return points / np.linalg.norm(points, axis=1, keepdims=True)

    matrix = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (count, dimension))
    for start in range(0, count, 100_000):
        matrix[start : start + 100_000] = sample_vectors(min(100_000, count - start))
    matrix.flush()
    return sample_vectors(QUERIES)


def _build_in_process(kind: str, folder: Path, device: str) -> dict[str, Any]:
    """Builds an index in a new process, and returns its time, size and peak memory."""
    process = multiprocessing.get_context("spawn").Process(target=_build, args=(kind, folder, device))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"building {kind} failed with exit code {process.exitcode}")
    cost: dict[str, Any] = json.loads((folder / f"{kind}.json").read_text())
    return cost


def _build(kind: str, folder: Path, device: str) -> None:
    """Builds an index and writes its cost to a JSON file."""
    vectors = np.load(folder / "vectors.npy")
    started = time.perf_counter()
    build_index(vectors, Index.model_validate({"kind": kind}), 0, folder / kind, device)
    cost = {
        "seconds": time.perf_counter() - started,
        "bytes": (folder / kind).stat().st_size,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20),
    }
    (folder / f"{kind}.json").write_text(json.dumps(cost))


def _search(index: ShardedIndex, queries: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the positions, (queries, 10), and the queries per second when they come one by one."""
    index.search(queries[:20], NEIGHBOURS)  # reads the memory-mapped file
    positions, started = [], time.perf_counter()
    for query in queries:
        positions.append(index.search(query[None], NEIGHBOURS)[1][0])
    return np.stack(positions), len(queries) / (time.perf_counter() - started)


if __name__ == "__main__":
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    main()
