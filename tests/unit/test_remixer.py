import numpy as np
import pyarrow as pa
import pytest

from reasonembed import ids, schemas
from reasonembed.config import Assemble, Generate, Mine
from reasonembed.llm.protocol import Answer
from reasonembed.remixer.assemble import assemble_query, usable_rows
from reasonembed.remixer.generate import generate_queries, select_sources, usable_queries
from reasonembed.remixer.mine import mine_candidates
from reasonembed.retrieval.collection import Collection


def corpus(*rows):
    return pa.Table.from_pylist(
        [{"task": t, "doc_id": d, "title": "", "text": x} for t, d, x in rows], schema=schemas.CORPUS
    )


def judged(task, gold, excluded=()):
    row = {
        "task": task,
        "query_id": "q",
        "query": "?",
        "instruction": "",
        "gold_ids": gold,
        "gold_grades": [1] * len(gold),
        "excluded_ids": list(excluded),
    }
    return pa.Table.from_pylist([row], schema=schemas.QUESTIONS)


def test_judged_documents_and_their_copies_are_never_sources():
    table = corpus(
        ("a", "gold", "the  answer"),
        ("a", "copy", "the answer"),
        ("a", "ex", "excluded one"),
        ("a", "free", "free to use"),
        ("b", "gold", "same id, other task"),
    )
    chosen = select_sources(table, judged("a", ["gold"], ["ex"]), Generate(min_chars=1), seed=0)
    assert {(r["task"], r["doc_id"]) for r in chosen.to_pylist()} == {("a", "free"), ("b", "gold")}


def test_sources_are_shared_evenly_and_what_a_small_task_leaves_goes_to_the_others():
    table = corpus(
        *(
            (task, f"{task}{n}", f"text {n} of {task}")
            for task, size in (("a", 2), ("b", 50), ("c", 50))
            for n in range(size)
        )
    )
    chosen = select_sources(table, schemas.QUESTIONS.empty_table(), Generate(min_chars=1, max_queries=22), seed=0)
    tasks = chosen["task"].to_pylist()
    assert [tasks.count(t) for t in "abc"] == [2, 10, 10]
    again = select_sources(table, schemas.QUESTIONS.empty_table(), Generate(min_chars=1, max_queries=22), seed=0)
    assert again.equals(chosen)
    other = select_sources(table, schemas.QUESTIONS.empty_table(), Generate(min_chars=1, max_queries=22), seed=1)
    assert not other.equals(chosen)


def test_length_bounds():
    table = corpus(("a", "short", "x" * 9), ("a", "fits", "x" * 10), ("a", "long", "x" * 21))
    chosen = select_sources(table, schemas.QUESTIONS.empty_table(), Generate(min_chars=10, max_chars=20), seed=0)
    assert chosen["doc_id"].to_pylist() == ["fits"]


class Scripted:
    name = "scripted"

    def __init__(self, *answers):
        self.answers = list(answers)

    def answer(self, requests):
        return [self.answers.pop(0) for _ in requests]


def test_bad_answers_become_rejects_and_equal_queries_count_once():
    sources = select_sources(
        corpus(*(("a", str(n), f"document {n}") for n in range(4))),
        schemas.QUESTIONS.empty_table(),
        Generate(min_chars=1),
        0,
    )
    engine = Scripted(
        Answer(text='{"query": "Same  one"}'),
        Answer(text='{"query": "same one"}'),
        Answer(text="garbage"),
        Answer(error="down"),
    )
    queries = generate_queries(sources, engine, {"a": "find it"})
    assert queries["reject_reason"].to_pylist()[2:] == ["invalid answer: answer: json_invalid", "down"]
    assert queries["raw_answer"].to_pylist()[2] == "garbage"
    assert set(queries["instruction"].to_pylist()) == {"find it"}
    assert usable_queries(queries).num_rows == 1


@pytest.mark.parametrize("seed", range(20))
def test_source_copies_and_near_copies_are_never_candidates(seed):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(30, 8)).astype(np.float32)
    texts = [f"words {n} here" for n in range(30)]
    vectors[1] = vectors[0] + 0.01 * rng.normal(size=8)  # a near copy
    texts[2] = " words  0 here"  # an exact copy but for white space, wherever its vector lies
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    collection = Collection([f"d{n}" for n in range(30)], texts, vectors)
    query = {
        "query_id": "q",
        "task": "a",
        "instruction": "",
        "query": "words 0 here",
        "source_doc_id": "d0",
        "generator": "g",
    }
    queries = pa.Table.from_pylist([query], schema=schemas.QUERIES)
    mined = mine_candidates(queries, {"a": collection}, lambda t: vectors[:1], Mine(keep=25, near_duplicate=0.95))
    found = mined["doc_id"].to_pylist()
    assert not {"d0", "d1", "d2"} & set(found)
    assert len(found) == len(set(found)) == 25
    assert mined["rank"].to_pylist() == list(range(1, 26))
    assert mined["pair_id"].to_pylist()[0] == ids.pair_id("q", found[0])


def pairs(*rows):
    return pa.table({"doc_id": [r[0] for r in rows], "grade": [r[1] for r in rows], "score": [r[2] for r in rows]})


def test_assembly_keeps_scores_drops_equal_texts_and_rejects_one_sided_queries():
    collection = Collection(["a", "b", "c", "d"], ["one", "two", " one ", "four"], np.zeros((4, 0), np.float32))
    query = {"query_id": "q", "task": "t", "instruction": "i", "query": "text"}
    row = assemble_query(
        pairs(("d", 1, 0.1), ("b", 2, 0.4), ("a", 3, 0.8), ("c", 5, 0.9)), query, None, collection, Assemble()
    )
    assert (row["pos"], row["pos_score"], row["pos_grade"]) == ([" one "], [0.9], [5])
    assert (row["neg"], row["neg_score"]) == (["two", "four"], [0.4, 0.1])
    assert row["reasoning_query"] == "text"
    none = assemble_query(pairs(("a", 1, 0.1)), query, "r", collection, Assemble())
    only = assemble_query(pairs(("a", 4, 0.9)), query, "r", collection, Assemble())
    assert (none["reject_reason"], only["reject_reason"]) == ("no positive", "no negative")
    table = pa.Table.from_pylist([none, row, only], schema=schemas.TRAINING)
    assert usable_rows(table)["query_id"].to_pylist() == ["q"]
