import pytest
from factories import write_bright, write_lines

from reasonembed.corpora import read_corpus, read_questions
from reasonembed.errors import UserError


@pytest.fixture
def beir_folder(tmp_path):
    """A BEIR folder of one task, ``sci``, with judged queries for the split ``test``."""
    folder = tmp_path / "sci"
    (folder / "qrels").mkdir(parents=True)
    write_lines(
        folder / "corpus.jsonl", [{"_id": "d1", "title": "T", "text": "one"}, {"_id": "d2", "title": "", "text": "two"}]
    )
    write_lines(folder / "queries.jsonl", [{"_id": "q1", "text": "first?"}, {"_id": "q2", "text": "never judged"}])
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\n")
    return folder


@pytest.fixture
def error_of_damage(tmp_path):
    """Returns the message of the error when a BRIGHT folder is read that a function has damaged."""

    def read(damage):
        folder = write_bright(tmp_path / "bright_tiny")
        damage(folder)
        with pytest.raises(UserError) as error:  # noqa: PT012 -- the corpus or the questions may be the damaged part
            corpus = read_corpus(f"bright:{folder}")
            read_questions(f"bright:{folder}", "test", corpus)
        return str(error.value)

    return read
