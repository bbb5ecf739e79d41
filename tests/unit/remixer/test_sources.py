from remixer_tables import corpus_table, questions_table

from reasonembed import ids
from reasonembed.config import Generate
from reasonembed.remixer.sources import eligible_sources, judged_texts, sample_sources


def test_judged_documents_and_their_copies_are_never_sources():
    table = corpus_table(
        ("a", "gold", "the  answer"),
        ("a", "copy", "the answer"),
        ("a", "ex", "excluded one"),
        ("a", "free", "free to use"),
        ("b", "gold", "same id, other task"),
    )
    judged = judged_texts(table, questions_table("a", ["gold"], ("ex",)))
    assert judged == {"the answer", "excluded one"}
    sources = eligible_sources(table, judged, Generate(min_chars=1)).to_pylist()
    assert {(row["task"], row["doc_id"]) for row in sources} == {("a", "free"), ("b", "gold")}
    assert sources[0]["query_id"] == ids.query_id("a", "free")


def test_sources_are_shared_evenly_and_the_share_a_small_task_cannot_fill_goes_to_the_others():
    sizes = {"a": 2, "b": 50, "c": 50}
    rows = [(task, f"{task}{n}", f"text {n} of {task}") for task, size in sizes.items() for n in range(size)]
    config = Generate(min_chars=1, max_queries=22)
    eligible = eligible_sources(corpus_table(*rows), set(), config)
    sample = sample_sources(eligible, config, seed=0)
    tasks = sample["task"].to_pylist()
    assert [tasks.count(task) for task in "abc"] == [2, 10, 10]
    assert len(set(sample["query_id"].to_pylist())) == 22
    assert sample_sources(eligible, config, seed=0).equals(sample)
    assert not sample_sources(eligible, config, seed=1).equals(sample)


def test_length_bounds_and_equal_texts():
    table = corpus_table(
        ("a", "short", "x" * 9), ("a", "fits", "x" * 10), ("a", "same", "x" * 10), ("a", "long", "x" * 21)
    )
    eligible = eligible_sources(table, set(), Generate(min_chars=10, max_chars=20))
    assert eligible["doc_id"].to_pylist() == ["fits"]
