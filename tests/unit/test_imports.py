"""The shape of the house: Ray at the edge, and the standard library's ``platform`` untouched."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest


def imports_of(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_only_the_edge_imports_ray(repository):
    library = repository / "platform" / "reasonembed"
    for path in library.rglob("*.py"):
        if "distributed" not in path.relative_to(library).parts:
            found = {n for n in imports_of(path) if n.split(".")[0] == "ray" or n.startswith("reasonembed.distributed")}
            assert not found, f"{path} imports {found}"


def test_pure_logic_does_not_look_outwards(repository):
    library = repository / "platform" / "reasonembed"
    outer = ("reasonembed.distributed", "reasonembed.serving", "reasonembed.evaluation")
    for folder in ("corpora", "llm", "remixer", "embedder", "redapter", "retrieval"):
        for path in (library / folder).rglob("*.py"):
            assert not {n for n in imports_of(path) if n.startswith(outer)}, path


def test_platform_is_the_standard_librarys(repository):
    assert not (repository / "platform" / "__init__.py").exists()
    code = "import platform, reasonembed; print(platform.__file__); platform.python_version()"
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    ).stdout
    assert Path(out.strip()).parent == Path(ast.__file__).parent


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("pipeline.pipeline", {"torch", "ray", "transformers"}),
        ("distributed.data.training_batches", {"torch", "scipy"}),  # each task of Ray Data that reads for training imports it
        ("distributed.data.workers", {"torch", "ray"}),
        ("distributed.train.trainer", {"transformers", "deepspeed"}),  # the driver and Ray Train's controller do too
    ],
)
def test_what_every_process_imports_is_light(repository, module, without):
    code = f"import sys, reasonembed.{module}; print(*sys.modules)"
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    ).stdout
    assert not without & set(out.split())
