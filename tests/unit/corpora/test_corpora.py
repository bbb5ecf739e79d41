import pytest

from reasonembed.corpora import bright, read_corpus, read_questions, retrieval_instructions, task_groups
from reasonembed.errors import UserError


@pytest.mark.parametrize("source", ["bright:./nowhere", "r2med:./nowhere", "beir:/nowhere", "files:/nowhere"])
def test_a_missing_folder_is_named(source):
    with pytest.raises(UserError, match=f"{source}: no such folder"):
        read_corpus(source)


def test_rewritten_questions_of_a_format_without_them(beir_folder):
    corpus = read_corpus(f"beir:{beir_folder}")
    with pytest.raises(
        UserError, match=r"evaluate\.queries=gpt4_reason: .*/sci has no rewritten .*: bright, bright-long;"
    ):
        read_questions(f"beir:{beir_folder}", "test", corpus, queries="gpt4_reason")


def test_retrieval_instructions_by_task():
    assert retrieval_instructions("pydocs") == dict.fromkeys(
        ("data", "language", "system"),
        "Given a programming question, retrieve documentation that helps answer the question.",
    )
    assert len(retrieval_instructions("bright:x")) == 12
    assert retrieval_instructions("bright:x") == retrieval_instructions("bright-long:x")
    assert len(retrieval_instructions("r2med:x")) == 8
    assert retrieval_instructions("beir:x") == retrieval_instructions("files:x") == {}
    with pytest.raises(UserError, match="is not known"):
        retrieval_instructions("elastic:x")


def test_task_groups_of_a_benchmark():
    assert task_groups("bright:x") == task_groups("bright-long:x") == bright.GROUPS
    for other in ("pydocs", "beir:x", "r2med:x", "a file of judgements"):
        assert task_groups(other) == {}
