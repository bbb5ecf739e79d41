from evaluation_tables import corpus, questions, ranking

from reasonembed.evaluation.metrics import per_question
from reasonembed.evaluation.qrels import add_equal_texts


def test_a_copy_of_a_gold_document_is_relevant_by_the_corrected_judgements_only():
    table = questions(("t", "q", {"d 0": 2}, []), ("t", "r", {"d 0": 1}, ["d 2"]))
    corrected, added = add_equal_texts(table, corpus("same", "other", "same"))
    assert added == 1
    assert [row["gold_ids"] for row in corrected.to_pylist()] == [["d 0", "d 2"], ["d 0"]]
    assert corrected["gold_grades"].to_pylist() == [[2, 2], [1]]
    ranked = ranking(("t", "q", "d 2", 1.0))
    assert per_question(table, ranked)["mrr"].to_pylist() == [0, 0]
    assert per_question(corrected, ranked)["mrr"].to_pylist() == [1, 0]
