from evaluation_tables import questions, rank

from reasonembed.evaluation.failures import failed_questions
from reasonembed.evaluation.metrics import per_question


def test_the_worst_questions_come_first_with_their_retrieved_and_relevant_documents():
    table = questions(("t", "good", {"d 0": 1}, []), ("t", "bad", {"d 3": 1}, []), ("t", "worse", {"gone": 1}, []))
    ranked = rank(table, [9, 8, 7, 6])
    failures = failed_questions(per_question(table, ranked), table, ranked, {("t", "d 3"): "the text " * 100})
    assert [failure.query_id for failure in failures] == ["worse", "bad", "good"]
    assert [failure.ndcg for failure in failures] == per_question(table, ranked)["ndcg@10"].to_pylist()[::-1]
    [document] = failures[1].relevant
    assert (document.doc_id, document.rank, document.relevant) == ("d 3", 4, True)
    assert document.text.endswith(" …")
    assert [document.doc_id for document in failures[1].retrieved] == ["d 0", "d 1", "d 2"]
    assert failures[0].relevant[0].rank is None
