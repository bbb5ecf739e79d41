from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from reasonembed import ids, schemas
from reasonembed.config import Assemble, Generate, Mine
from reasonembed.llm.protocol import Parsed
from reasonembed.llm.replies import GeneratedQuery, Grading
from reasonembed.remixer.annotate import AnnotateTask
from reasonembed.remixer.assemble import assemble_query, usable_rows
from reasonembed.remixer.conditions import (
    EDUCATION_WEIGHTS,
    EDUCATION_WORDS,
    EDUCATIONS,
    LENGTH_BANDS,
    LENGTH_WEIGHTS,
    LENGTH_WORDS,
    sample_conditions,
)
from reasonembed.remixer.generate import (
    GenerateTask,
    QueryFilter,
    eligible_sources,
    judged_texts,
    sample_sources,
    usable_queries,
)
from reasonembed.remixer.mine import DenseRetriever, mine_candidates
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
    chosen = eligible_sources(table, judged_texts(table, judged("a", ["gold"], ["ex"])), Generate(min_chars=1))
    assert {(r["task"], r["doc_id"]) for r in chosen.to_pylist()} == {("a", "free"), ("b", "gold")}


def test_sources_are_shared_evenly_and_what_a_small_task_leaves_goes_to_the_others():
    table = corpus(
        *(
            (task, f"{task}{n}", f"text {n} of {task}")
            for task, size in (("a", 2), ("b", 50), ("c", 50))
            for n in range(size)
        )
    )
    settings = Generate(min_chars=1, max_queries=22)
    eligible = eligible_sources(table, set(), settings)
    chosen = sample_sources(eligible, settings, seed=0)
    tasks = chosen["task"].to_pylist()
    assert [tasks.count(t) for t in "abc"] == [2, 10, 10]
    assert sample_sources(eligible, settings, seed=0).equals(chosen)
    assert not sample_sources(eligible, settings, seed=1).equals(chosen)


def test_length_bounds_and_equal_texts():
    table = corpus(("a", "short", "x" * 9), ("a", "fits", "x" * 10), ("a", "same", "x" * 10), ("a", "long", "x" * 21))
    eligible = eligible_sources(table, set(), Generate(min_chars=10, max_chars=20))
    assert eligible["doc_id"].to_pylist() == ["fits"]


def queries(*texts, task="a"):
    rows = [
        {
            "query_id": str(n),
            "task": task,
            "instruction": "",
            "query": text,
            "source_doc_id": str(n),
            "generator": "g",
            "reject_reason": None if text else "no answer",
        }
        for n, text in enumerate(texts)
    ]
    return pa.Table.from_pylist(rows, schema=schemas.QUERIES)


def test_equal_queries_count_once_over_all_tables():
    keep = QueryFilter([], 0.5)
    first, second = keep(queries("Same  one", None)), keep(queries("same one", "another"))
    assert first["reject_reason"].to_pylist() == [None, "no answer"]
    assert second["reject_reason"].to_pylist() == ["equal to another query", None]
    assert usable_queries(second)["query"].to_pylist() == ["another"]


def test_near_copies_of_evaluation_questions_are_dropped():
    question = "How can I keep a list sorted while I put new items into it all the time?"
    keep = QueryFilter([question, "Why?"], 0.5)
    near = "how can I keep a list sorted while I put new things into it all the time?"
    far = "How can I keep my temper while I wait for new items all the time?"
    reasons = keep(queries(question.upper(), near, far, "why?"))["reject_reason"].to_pylist()
    dropped = "near-copy of an evaluation question"
    assert reasons == [dropped, dropped, None, dropped]


def test_conditions_follow_their_weights_and_only_the_query():
    drawn = [sample_conditions(str(n), 7) for n in range(6000)]
    assert drawn[:9] == [sample_conditions(str(n), 7) for n in range(9)]
    assert drawn != [sample_conditions(str(n), 8) for n in range(6000)]
    bands, educations = Counter(b for b, _ in drawn), Counter(e for _, e in drawn)
    for counts, names, weights in (
        (bands, LENGTH_BANDS, LENGTH_WEIGHTS),
        (educations, EDUCATIONS, EDUCATION_WEIGHTS),
    ):
        for name, weight in zip(names, weights, strict=True):
            assert counts[name] / 6000 == pytest.approx(weight / sum(weights), abs=0.03)


def test_a_query_carries_the_conditions_that_its_prompt_named():
    row = {"query_id": "q", "task": "t", "doc_id": "d", "title": "", "text": "body"}
    parsed = Parsed(value=GeneratedQuery(query="?"))
    task = GenerateTask({"t": "find it"}, seed=3)
    fields, result = task.request(row).fields, task.result(row, parsed, "m")
    assert fields["length"] == LENGTH_WORDS[result["length_band"]]
    assert fields["education"] == EDUCATION_WORDS[result["education"]]
    assert result["instruction"] == fields["instruction"] == "find it"
    unconditioned = GenerateTask({}, seed=None).result(row, parsed, "m")
    assert (unconditioned["length_band"], unconditioned["education"]) == (None, None)


def a_query(text="words 0 here", source="d0"):
    row = {
        "query_id": "q",
        "task": "a",
        "instruction": "",
        "query": text,
        "source_doc_id": source,
        "generator": "g",
    }
    return pa.Table.from_pylist([row], schema=schemas.QUERIES)


@pytest.mark.parametrize("seed", range(20))
def test_source_copies_and_near_copies_are_never_candidates(seed):
    rng = np.random.default_rng(seed)
    texts = [f"words {n} here" for n in range(30)]
    texts[2] = " words  0 here"  # an exact copy but for white space, wherever its vector lies
    retrievers = []
    for number in range(2):
        vectors = rng.normal(size=(30, 8)).astype(np.float32)
        vectors[1 + 2 * number] = vectors[0] + 0.01 * rng.normal(size=8)  # a near copy in this model's eyes only
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        collection = Collection([f"d{n}" for n in range(30)], texts, vectors)
        encode = lambda asked, vectors=vectors: np.repeat(vectors[:1], len(asked), axis=0)  # noqa: E731
        retrievers.append(DenseRetriever(f"m{number}", {"a": collection}, encode))
    mined = mine_candidates(a_query(), retrievers, Mine(keep=25, near_duplicate=0.95))
    found = mined["doc_id"].to_pylist()
    assert not {"d0", "d1", "d2", "d3"} & set(found)
    assert len(found) == len(set(found)) == 25
    assert mined["rank"].to_pylist() == list(range(1, 26))
    assert mined["pair_id"].to_pylist()[0] == ids.pair_id("q", found[0])
    assert mined["retriever"][0].as_py() == "bm25:0.5+m0:0.25+m1:0.25"


def test_several_dense_retrievers_are_averaged():
    texts = ["one", "two", "three", "source"]
    eye = np.eye(4, dtype=np.float32)
    retrievers = [
        DenseRetriever(
            name,
            {"a": Collection(["d0", "d1", "d2", "d3"], texts, eye)},
            lambda asked, scores=scores: np.array([scores] * len(asked), np.float32),
        )
        for name, scores in (("x", [1.0, 0.8, 0.0, 0.0]), ("y", [0.0, 0.9, 1.0, 0.0]))
    ]
    mined = mine_candidates(a_query("nothing", "d3"), retrievers, Mine(keep=3, lexical_weight=0))
    assert mined["doc_id"].to_pylist() == ["d1", "d0", "d2"]
    assert mined["score"].to_pylist() == pytest.approx([0.85, 0.5, 0.5])


def test_annotation_knows_what_relevance_means_for_a_task_and_takes_a_grade_for_a_score():
    collection = Collection(["d"], ["the document"], np.zeros((1, 0), np.float32))
    query = {"query_id": "q", "task": "leetcode", "query": "sort it", "source_doc_id": "s"}
    task = AnnotateTask(lambda: {"q": query}, lambda: {"leetcode": collection}, {"mine": "it is mine"})
    row = {"pair_id": "p", "query_id": "q", "doc_id": "d"}
    request = task.request(row)
    assert "algorithms or data structures" in request.fields["relevance"]
    assert request.fields["document"] == "the document"
    grading = Grading(query_analysis="a", document_analysis="b", grade=4)
    assert task.result(row, Parsed(value=grading), "m")["score"] == 0.75
    assert task.result(row, Parsed(value=grading, score=0.6), "m")["score"] == 0.6
    assert task.result(row, Parsed(reject_reason="x"), "m")["grade"] is None
    with pytest.raises(KeyError):
        task.request({**row, "doc_id": "nowhere"})


def pairs(*rows):
    return pa.table({"doc_id": [r[0] for r in rows], "grade": [r[1] for r in rows], "score": [r[2] for r in rows]})


def test_assembly_keeps_scores_drops_equal_texts_and_rejects_one_sided_queries():
    collection = Collection(["a", "b", "c", "d"], ["one", "two", " one ", "four"], np.zeros((4, 0), np.float32))
    query = {"query_id": "q", "task": "pony", "instruction": "i", "query": "text"}
    row = assemble_query(
        pairs(("d", 1, 0.1), ("b", 2, 0.4), ("a", 3, 0.8), ("c", 5, 0.9)), query, None, collection, Assemble()
    )
    assert (row["pos"], row["pos_score"], row["pos_grade"]) == ([" one "], [0.9], [5])
    assert (row["neg"], row["neg_score"]) == (["two", "four"], [0.4, 0.1])
    assert row["reasoning_query"] == "text"
    assert (row["train_group_size"], row["batch_size"]) == (64, 2)
    none = assemble_query(pairs(("a", 1, 0.1)), query, "r", collection, Assemble())
    only = assemble_query(pairs(("a", 4, 0.9)), query, "r", collection, Assemble())
    assert (none["reject_reason"], only["reject_reason"]) == ("no positive", "no negative")
    table = pa.Table.from_pylist([none, row, only], schema=schemas.TRAINING)
    assert usable_rows(table)["query_id"].to_pylist() == ["q"]
