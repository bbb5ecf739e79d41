"""What each kind of index costs and finds, on synthetic vectors, one command:

    python benchmarks/index.py [--vectors 1000000] [--dimension 384] [--kinds flat ivf hnsw ivf-pq] [--device cuda]

Unit vectors around the centres of clusters, as texts lie around topics; queries are drawn in the same way. Recall@10 is
the share of a query's ten nearest vectors, by exact search, that the index finds. Every index is built in a process of
its own by ``retrieval.faiss_index.build_index`` with the configuration's defaults, and searched one query at a time, as
the endpoint does, on all cores.
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
from reasonembed.retrieval.faiss_index import ShardedIndex, build_index, open_index

QUERIES, NEIGHBOURS = 1000, 10
SPREAD = 1.2  # length of the noise beside that of a centre: near neighbours are of one cluster, but not all of it
FARTHER: dict[str, list[dict[str, int]]] = {
    "flat": [{}],
    "ivf": [{"probes": probes} for probes in (16, 64)],
    "hnsw": [{"ef_search": far} for far in (64, 256)],
    "ivf-pq": [{"probes": probes} for probes in (16, 64)],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--kinds", nargs="+", default=list(FARTHER))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="cuda: not for hnsw")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    where = f"{os.cpu_count()} cores" if arguments.device == "cpu" else "a GPU"
    table = Table(title=f"{arguments.vectors:,} vectors of {arguments.dimension} dimensions, {where}")
    for name in ("kind", "searched", "recall@10", "queries/s", "build s", "file GiB", "peak GiB of building"):
        table.add_column(name, justify="left" if name in ("kind", "searched") else "right")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        queries = _draw(arguments.vectors, arguments.dimension, place)
        context = multiprocessing.get_context("spawn")
        exact: np.ndarray | None = None
        for kind in dict.fromkeys(["flat", *arguments.kinds]):
            process = context.Process(target=_build, args=(kind, place, arguments.device))
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(f"building {kind} failed")
            built = json.loads((place / f"{kind}.json").read_text())
            index = open_index(place / kind, arguments.device)
            for far in FARTHER[kind]:
                found, rate = _search(ShardedIndex([index], Index(kind=kind, **far)), queries)
                exact = found if exact is None else exact
                recall = np.mean([len(set(a) & set(b)) / NEIGHBOURS for a, b in zip(exact, found, strict=True)])
                told = ", ".join(f"{name} {value}" for name, value in far.items()) or "everything"
                costs = (f"{built['seconds']:.0f}", f"{built['bytes'] / (1 << 30):.2f}", f"{built['peak']:.2f}")
                table.add_row(kind, told, f"{recall:.3f}", f"{rate:.0f}", *costs)
                console.print(f"{kind}, {told}: recall {recall:.3f}, {rate:.0f} queries/s, {built['seconds']:.0f} s")
            del index
            (place / kind).unlink()
    Console(width=110).print(table)


def _draw(vectors: int, dimension: int, place: Path) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(10, vectors // 200), dimension), np.float32)

    def drawn(count: int) -> np.ndarray:
        noise = SPREAD * rng.standard_normal((count, dimension), np.float32)
        points = centres[rng.integers(0, len(centres), count)] + noise
        return points / np.linalg.norm(points, axis=1, keepdims=True)

    matrix = np.lib.format.open_memmap(place / "vectors.npy", "w+", np.float32, (vectors, dimension))
    for start in range(0, vectors, 100_000):
        matrix[start : start + 100_000] = drawn(min(100_000, vectors - start))
    matrix.flush()
    return drawn(QUERIES)


def _build(kind: str, place: Path, device: str) -> None:
    vectors = np.load(place / "vectors.npy")
    started = time.perf_counter()
    build_index(vectors, Index.model_validate({"kind": kind}), 0, place / kind, device)
    told: dict[str, Any] = {
        "seconds": time.perf_counter() - started,
        "bytes": (place / kind).stat().st_size,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20),
    }
    (place / f"{kind}.json").write_text(json.dumps(told))


def _search(index: ShardedIndex, queries: np.ndarray) -> tuple[np.ndarray, float]:
    """(queries, 10) positions, and queries a second when they come one by one."""
    index.search(queries[:20], NEIGHBOURS)  # the file is mapped, not read, until now
    found, started = [], time.perf_counter()
    for query in queries:
        found.append(index.search(query[None], NEIGHBOURS)[1][0])
    return np.stack(found), len(queries) / (time.perf_counter() - started)


if __name__ == "__main__":
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    main()
