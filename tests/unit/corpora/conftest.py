import pytest
from factories import write_lines


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
