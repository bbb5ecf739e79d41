import pyarrow as pa
import pytest
from evaluation_tables import corpus

from reasonembed import schemas
from reasonembed.corpora.tables import question_row
from reasonembed.evaluation.leaks import TrainingTexts, find_leaks

QUESTIONS = pa.Table.from_pylist(
    [
        question_row("t", "q", "How do plants turn light into sugar in the leaves", "", {"d 0": 1}),
        question_row("t", "r", "Why is the sky blue at noon", "", {"d 1": 1}),
    ],
    schema=schemas.QUESTIONS,
)
DOCUMENTS = corpus("photosynthesis makes sugar out of light", "scattering of light in the air", "a third")


def test_other_training_data_has_no_leaks():
    training = TrainingTexts(["What makes bread rise in the oven"], ["yeast eats sugar"], ["yeast"], ["bread"])
    report = find_leaks(training, QUESTIONS, DOCUMENTS)
    assert not report.has_leaks
    assert not report.target_corpus_aware
    assert report.examples == ()


def test_leaks_are_counted():
    training = TrainingTexts(
        queries=["why is the sky blue  at noon", "how do plants turn light into sugar in their leaves"],
        sources=["Photosynthesis makes sugar out of light", "something else"],
        positives=["scattering of light in the air"],
        corpus=["a third", "a fourth"],
    )
    report = find_leaks(training, QUESTIONS, DOCUMENTS)
    assert report.has_leaks
    assert (report.questions, report.gold_documents) == (2, 2)
    assert (report.questions_equal, report.questions_near) == (1, 2)
    assert (report.gold_as_source_equal, report.gold_as_source_near) == (1, 1)
    assert report.gold_as_positive == 1
    assert report.corpus_share == pytest.approx(1 / 3, abs=1e-4)
    assert report.target_corpus_aware
    assert {example["what"] for example in report.examples} == {"question", "gold document as source"}
    assert report.figures()["target_corpus_aware"] is True
