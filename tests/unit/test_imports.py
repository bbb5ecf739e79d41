"""The shape of the library: Ray at the edge only, layers without upward imports or cycles, names that are unique."""

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[2] / "platform" / "reasonembed"
LAYERS = (
    {
        "errors",
        "ids",
        "schemas",
        "storage",
        "artifacts",
        "compaction",
        "deduplication",
        "durability",
        "s3_requests",
        "s3_errors",
        "s3_filesystem",
        "lease",
        "provenance",
        "garbage",
        "verification",
    },
    {"config"},
    {"corpora", "embedder", "retrieval"},
    {"llm"},
    {"remixer", "redapter", "evaluation", "serving"},
    {"pipeline"},
    {"distributed"},
    {"cli"},
)
"""Packages and modules below ``reasonembed``, lowest layer first. A layer imports from itself and from those before."""
MAY_IMPORT_RAY = {"distributed", "cli"}
MOST_FILES = 20


@cache
def module_files() -> dict[str, Path]:
    """Every module of the library and its file."""
    paths = sorted(LIBRARY.rglob("*.py"))
    names = (".".join(("reasonembed", *path.relative_to(LIBRARY).with_suffix("").parts)) for path in paths)
    return {name.removesuffix(".__init__"): path for name, path in zip(names, paths, strict=True)}


@cache
def syntax_tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def names_in(node: ast.AST) -> set[str]:
    """The modules that an import statement loads; ``from package import module`` loads both."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        assert not node.level, "the library uses absolute imports"
        modules = {f"{node.module}.{alias.name}" for alias in node.names} & set(module_files())
        return {node.module, *modules}
    return set()


def all_imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and name of everything that a file imports, also inside functions and for type checkers."""
    for node in ast.walk(syntax_tree(path)):
        yield from ((node.lineno, name) for name in names_in(node))


def imports_at_import_time(path: Path) -> set[str]:
    """What a file imports when it is imported itself: not inside functions, not for type checkers."""
    names: set[str] = set()
    pending: list[ast.AST] = [syntax_tree(path)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
            continue
        names |= names_in(node)
        pending += ast.iter_child_nodes(node)
    return names


def package_of(module: str) -> str:
    """The package or module directly below ``reasonembed``; empty for ``reasonembed`` itself."""
    return [*module.split("."), ""][1]


def layer_of(module: str) -> int:
    """Number of the layer; -1 for ``reasonembed`` itself, which holds the version."""
    package = package_of(module)
    if not package:
        return -1
    [layer] = [number for number, packages in enumerate(LAYERS) if package in packages]
    return layer


def location(path: Path, line: int) -> str:
    return f"{path.relative_to(LIBRARY)}:{line}"


def test_only_the_edge_imports_ray():
    violations = [
        f"{location(path, line)} imports {name}"
        for module, path in module_files().items()
        if package_of(module) not in MAY_IMPORT_RAY
        for line, name in all_imports(path)
        if name.split(".")[0] == "ray"
    ]
    assert violations == []


def test_every_module_belongs_to_a_layer():
    packages = {package_of(module) for module in module_files()} - {""}
    assert packages == set.union(*LAYERS)


def test_no_layer_imports_from_a_higher_one():
    violations = [
        f"{location(path, line)} imports {name}"
        for module, path in module_files().items()
        for line, name in all_imports(path)
        if name.split(".")[0] == "reasonembed" and layer_of(name) > layer_of(module)
    ]
    assert violations == []


def packages_above(module: str) -> set[str]:
    parts = module.split(".")
    return {".".join(parts[:length]) for length in range(1, len(parts))}


def loaded_modules(module: str, path: Path) -> set[str]:
    """The library's modules that a module imports, and the packages that Python imports before these."""
    imported = imports_at_import_time(path) & set(module_files())
    packages = set().union(*map(packages_above, imported)) - packages_above(module)
    return (imported | packages) - {module}


def test_modules_do_not_import_each_other_in_a_cycle():
    graph = {module: loaded_modules(module, path) for module, path in module_files().items()}
    while leaves := {module for module, imported in graph.items() if not imported}:
        graph = {module: imported - leaves for module, imported in graph.items() if module not in leaves}
    assert graph == {}


def test_no_folder_has_too_many_files():
    counts = {
        str(folder.relative_to(LIBRARY)): sum(path.is_file() for path in folder.iterdir())
        for folder in (LIBRARY, *LIBRARY.rglob("*"))
        if folder.is_dir() and folder.name != "__pycache__"
    }
    assert {folder: count for folder, count in counts.items() if count > MOST_FILES} == {}


def test_no_two_modules_have_the_same_name():
    files = defaultdict(list)
    for path in module_files().values():
        if path.stem != "__init__":
            files[path.stem].append(str(path.relative_to(LIBRARY)))
    assert {name: paths for name, paths in files.items() if len(paths) > 1} == {}


def test_no_two_public_classes_have_the_same_name():
    files = defaultdict(list)
    for path in module_files().values():
        for node in syntax_tree(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                files[node.name].append(location(path, node.lineno))
    assert {name: lines for name, lines in files.items() if len(lines) > 1} == {}


def test_platform_is_the_module_of_the_standard_library(repository):
    assert not (repository / "platform" / "__init__.py").exists()
    code = "import platform, reasonembed; print(platform.__file__); platform.python_version()"
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    ).stdout
    assert Path(out.strip()).parent == Path(ast.__file__).parent


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        # A run in which everything is finished imports no more than these two.
        ("pipeline.pipeline", {"torch", "ray", "transformers"}),
        ("cli.jobs", {"torch", "ray", "transformers"}),
        ("distributed.data.training_batches", {"torch", "scipy"}),  # every Ray Data task that reads for training
        ("distributed.data.worker_cache", {"torch", "ray"}),  # every Ray Data task that processes rows
        ("distributed.data.worker_pool", {"torch", "transformers"}),
        ("distributed.train.trainer", {"transformers", "deepspeed"}),  # the driver, and Ray Train's controller
    ],
)
def test_modules_that_every_process_imports_are_light(repository, module, absent):
    code = f"import sys, reasonembed.{module}; print(*sys.modules)"
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    ).stdout
    assert absent & set(out.split()) == set()
