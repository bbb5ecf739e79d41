import json

import pytest
from factories import write_lines

from reasonembed.corpora import read_corpus
from reasonembed.errors import UserError


def repeat_a_document(folder):
    path = folder / "nature" / "documents.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[0]]) + "\n")


def name_an_unknown_gold_document(folder):
    path = folder / "nature" / "examples.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["gold_ids"] = ["nowhere"]
    write_lines(path, rows)


def remove_all_documents(folder):
    for path in folder.rglob("documents.jsonl"):
        path.write_text("")


def remove_all_questions(folder):
    for path in folder.rglob("examples.jsonl"):
        path.write_text("")


def repeat_a_question(folder):
    path = folder / "nature" / "examples.jsonl"
    path.write_text(path.read_text() * 2)


def remove_gold_documents(folder):
    example = {"id": "q", "query": "?", "gold_ids": [], "excluded_ids": []}
    write_lines(folder / "nature" / "examples.jsonl", [example])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (repeat_a_document, "'nature/sound 0' occurs more than once in task 'nature'"),
        (name_an_unknown_gold_document, "names gold document 'nowhere'"),
        (remove_all_documents, "is empty"),
        (remove_all_questions, "has no questions"),
        (repeat_a_question, "query id 'sound' occurs more than once in task 'nature'"),
        (remove_gold_documents, "has no gold document"),
    ],
)
def test_an_invalid_corpus_or_benchmark_is_named(error_of_damage, damage, message):
    assert message in error_of_damage(damage)


def test_an_unknown_task_is_named(tiny_corpus):
    with pytest.raises(UserError, match="has no task 'chemistry'; its tasks: nature, physics"):
        read_corpus(f"bright:{tiny_corpus}", ["chemistry"])
