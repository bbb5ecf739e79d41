from remixer_tables import queries_table

from reasonembed.remixer.query_filter import QueryFilter

DUPLICATE, NEAR_DUPLICATE = "equal to another query", "near-copy of an evaluation question"


def reasons(table):
    return table["reject_reason"].to_pylist()


def test_equal_queries_count_once_over_all_tables():
    query_filter = QueryFilter([], 0.5)
    assert reasons(query_filter(queries_table("Same  one", None))) == [None, "no answer"]
    assert reasons(query_filter(queries_table("same one", "another"))) == [DUPLICATE, None]


def test_equal_queries_of_different_tasks_are_no_duplicates():
    query_filter = QueryFilter([], 0.5)
    assert reasons(query_filter(queries_table("one", task="a"))) == [None]
    assert reasons(query_filter(queries_table("one", task="b"))) == [None]


def test_near_duplicates_of_evaluation_questions_are_rejected():
    question = "How can I keep a list sorted while I put new items into it all the time?"
    near = "how can I keep a list sorted while I put new things into it all the time?"
    far = "How can I keep my temper while I wait for new items all the time?"
    query_filter = QueryFilter([question, "Why?"], 0.5)
    table = query_filter(queries_table(question.upper(), near, far, "why?"))
    assert reasons(table) == [NEAR_DUPLICATE, NEAR_DUPLICATE, None, NEAR_DUPLICATE]
    assert table["query"].to_pylist() == [question.upper(), near, far, "why?"]


def test_the_threshold_decides_what_is_near():
    question = "How can I keep a list sorted while I put new items into it all the time?"
    near = "how can I keep a list sorted while I put new things into it all the time?"
    assert reasons(QueryFilter([question], 0.95)(queries_table(near, question))) == [None, NEAR_DUPLICATE]
