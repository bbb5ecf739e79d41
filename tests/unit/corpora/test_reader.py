import pytest

from reasonembed import corpora
from reasonembed.corpora import registry
from reasonembed.corpora.reader import Reader
from reasonembed.corpora.tables import documents_table
from reasonembed.errors import UserError


class LinesReader(Reader):
    """Reads a text file with one document per line."""

    location_form = "<file>"

    def read_documents(self, location, tasks):
        with open(location) as lines:
            return documents_table(("lines", str(number), "", line.strip()) for number, line in enumerate(lines))


@pytest.fixture
def lines_source(monkeypatch, tmp_path):
    readers = {**registry.READERS, "lines": LinesReader()}
    monkeypatch.setattr(registry, "READERS", readers)
    monkeypatch.setattr(corpora, "READERS", readers)
    (tmp_path / "documents.txt").write_text("one\ntwo\n")
    return f"lines:{tmp_path / 'documents.txt'}"


def test_a_new_format_needs_a_reader_of_documents_and_an_entry_in_the_registry(lines_source):
    corpus = corpora.read_corpus(lines_source)
    assert corpus["text"].to_pylist() == ["one", "two"]
    assert corpora.evaluation_splits(lines_source) == []
    assert corpora.retrieval_instructions(lines_source) == {}
    assert corpora.task_groups(lines_source) == {}
    with pytest.raises(UserError, match=r"documents\.txt has documents only"):
        corpora.read_questions(lines_source, "test", corpus)
    with pytest.raises(UserError, match="has no rewritten questions"):
        corpora.read_questions(lines_source, "test", corpus, queries="gpt4_reason")
    with pytest.raises(UserError, match=r"beir:<folder>, files:<folder> or lines:<file>"):
        corpora.parse_source("nothing")
