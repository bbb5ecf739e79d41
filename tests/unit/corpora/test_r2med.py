import pytest
from factories import write_lines

from reasonembed.corpora import evaluation_splits, read_corpus, read_questions
from reasonembed.errors import UserError


@pytest.fixture
def r2med_folder(tmp_path):
    """An R2MED folder of two tasks with one judged query each."""
    for task in ("Biology", "PMC-Clinical"):
        folder = tmp_path / "r2med" / task
        folder.mkdir(parents=True)
        write_lines(folder / "corpus.jsonl", [{"id": "d1", "text": "one"}, {"id": "d2", "text": "two"}])
        write_lines(folder / "query.jsonl", [{"id": "q1", "text": f"{task}?"}])
        qrels = [{"q_id": "q1", "p_id": "d2", "score": 1}, {"q_id": "q1", "p_id": "d1", "score": 0}]
        write_lines(folder / "qrels.jsonl", qrels)
    return tmp_path / "r2med"


def test_a_folder_of_tasks(r2med_folder):
    source = f"r2med:{r2med_folder}"
    corpus = read_corpus(source)
    assert corpus.num_rows == 4
    rows = {row["task"]: row for row in read_questions(source, "test", corpus).to_pylist()}
    assert rows["Biology"]["gold_ids"] == ["d2"]
    assert rows["Biology"]["instruction"].startswith("Given a Biology post, retrieve relevant passages")
    assert rows["PMC-Clinical"]["instruction"].endswith("retrieve similar cases that help diagnose the case.")
    assert evaluation_splits(source) == ["test"]


def test_a_folder_of_one_task(r2med_folder):
    assert read_corpus(f"r2med:{r2med_folder / 'Biology'}")["task"].unique().to_pylist() == ["Biology"]


def test_an_unknown_task(r2med_folder):
    with pytest.raises(UserError, match="has no task 'Chemistry'; its tasks: Biology, PMC-Clinical"):
        read_corpus(f"r2med:{r2med_folder}", ["Chemistry"])


@pytest.mark.parametrize(
    ("judgement", "message"),
    [
        ({"q_id": "gone", "p_id": "d2", "score": 1}, "judge query 'gone'"),
        ({"q_id": "q1", "p_id": "unknown", "score": 1}, "names gold document 'unknown'"),
        ({"q_id": "q1", "p_id": "d2", "score": "high"}, "qrels.jsonl, line 1: field 'score' must be a whole number"),
    ],
)
def test_invalid_qrels_are_named(r2med_folder, judgement, message):
    source = f"r2med:{r2med_folder}"
    corpus = read_corpus(source)
    write_lines(r2med_folder / "Biology" / "qrels.jsonl", [judgement])
    with pytest.raises(UserError) as error:
        read_questions(source, "test", corpus)
    assert message in str(error.value)
