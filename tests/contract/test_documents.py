"""The documents name files, settings and make targets that exist."""

import re
from pathlib import Path

import pytest

from reasonembed.config import Config

DOCUMENTS = ["README.md", "CONTRIBUTING.md", "docs/*.md", "cluster/README.md", "benchmarks/results/*.md"]
CODE = re.compile(r"`([^`]+)`|^ {4,}(\S.*)$", re.MULTILINE)
SETTING = re.compile(r"(?<![\w./-])([a-z]+)\.([a-z]\w*)(?=[\s=,`:]|$)")
SCRIPT = re.compile(r"(?<![\w/])((?:jobs|benchmarks|examples|tests|cluster|serve|docs)/[\w./-]*[\w-]\.\w+)")
TARGET = re.compile(r"\bmake ([a-z][a-z0-9-]+)")
FILES = (".py", ".yaml", ".json", ".md", ".txt", ".html", ".sh", ".j2", ".jsonl", ".run", ".trec")


@pytest.fixture(scope="module")
def snippets(repository: Path) -> list[tuple[str, str]]:
    """Pairs of a document's name and a piece of code in it."""
    paths = [path for pattern in DOCUMENTS for path in sorted(repository.glob(pattern))]
    return [
        (path.name, match[1] or match[2]) for path in paths for match in CODE.finditer(path.read_text(encoding="utf-8"))
    ]


def test_files_exist(repository, snippets):
    named = {(document, file) for document, code in snippets for file in SCRIPT.findall(code)}
    assert {"jobs/evaluate.py", "jobs/configs/quickstart.yaml", "benchmarks/serve.py"} <= {file for _, file in named}
    assert not {(document, file) for document, file in named if not (repository / file).exists()}


def test_modules_of_the_method_exist(repository):
    library = repository / "platform" / "reasonembed"
    text = (repository / "docs" / "method.md").read_text(encoding="utf-8")
    modules = {name for name in re.findall(r"[\w/]+\.py\b", text) if not name.startswith("jobs/")}
    assert "redapter/losses.py" in modules
    assert not {name for name in modules if not list(library.rglob(name))}
    functions = re.findall(r"(\w+\.py): (\w+)", text)
    assert len(functions) >= 5
    for module, function in functions:
        (path,) = library.rglob(module)
        assert f"def {function}(" in path.read_text(encoding="utf-8"), f"{module} has no function {function}"


def test_settings_exist(snippets):
    sections = {name: field.annotation for name, field in Config.model_fields.items()}
    named = {
        (document, *setting)
        for document, code in snippets
        for setting in SETTING.findall(code)
        if setting[0] in sections and not ".".join(setting).endswith(FILES)
    }
    assert ("README.md", "train", "grad_cache") in named
    assert not {setting for setting in named if setting[2] not in sections[setting[1]].model_fields}


def test_make_targets_exist(repository, snippets):
    targets = set(re.findall(r"^([a-z0-9-]+):", (repository / "Makefile").read_text(), re.MULTILINE))
    named = {(document, target) for document, code in snippets for target in TARGET.findall(code)}
    assert {"test", "quickstart", "serve"} <= {target for _, target in named}
    assert not {(document, target) for document, target in named if target not in targets}
