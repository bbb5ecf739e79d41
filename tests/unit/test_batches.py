import pyarrow as pa
import pytest

from reasonembed import schemas
from reasonembed.config import Train
from reasonembed.errors import UserError
from reasonembed.redapter.batches import BatchPlan, examples_of, text_key
from reasonembed.redapter.engine import learning_rate


def training(n=6, negatives=3):
    rows = [
        {
            "query_id": f"q{i}",
            "task": "t",
            "prompt": "",
            "query": f"query {i}",
            "reasoning_query": f"r {i}",
            "pos": [f"p{i}a", f"p{i}b"],
            "pos_score": [0.9, 0.8],
            "pos_grade": [5, 4],
            "neg": [f"n{i}{k}" for k in range(negatives)],
            "neg_score": [0.1 * k for k in range(negatives)],
            "neg_grade": [1] * negatives,
        }
        for i in range(n)
    ]
    return pa.Table.from_pylist(rows, schema=schemas.TRAINING)


def test_a_step_has_one_task_and_an_epoch_every_row_at_most_once():
    tasks = ["a"] * 10 + ["b"] * 7
    plan = BatchPlan(tasks, batch_size=3, steps=5, seed=0)  # 3 batches of a and 2 of b make an epoch
    assert len(plan.batches) == 5
    assert all(len({tasks[row] for row in batch}) == 1 for batch in plan.batches)
    rows = [row for batch in plan.batches for row in batch]
    assert len(rows) == len(set(rows)) == 15


def test_a_longer_plan_begins_with_the_shorter_one():
    tasks = ["a"] * 20
    long, short = BatchPlan(tasks, 4, 12, seed=3), BatchPlan(tasks, 4, 7, seed=3)
    assert long.batches[:7] == short.batches
    assert BatchPlan(tasks, 4, 12, seed=4).batches != long.batches


def test_too_few_rows_for_a_batch():
    with pytest.raises(UserError, match="batch_size is 8, the largest task has 5"):
        BatchPlan(["a"] * 5 + ["b"] * 3, 8, 1, seed=0)


def test_a_group_is_a_positive_and_negatives_without_replacement_unless_to_fill():
    table = training()
    [example] = examples_of(table, [2], 4, seed=0, step=0)
    assert example.passages[0] in ("p2a", "p2b")
    assert sorted(example.passages[1:]) == ["n20", "n21", "n22"]
    assert example.scores[1:] == pytest.approx([0.1 * int(p[-1]) for p in example.passages[1:]])
    assert example.positive_keys == {text_key("p2a"), text_key("p2b")}
    [filled] = examples_of(table, [2], 8, seed=0, step=0)
    assert len(filled.passages) == 8
    assert set(filled.passages[1:]) == {"n20", "n21", "n22"}


def test_a_step_is_a_function_of_seed_and_step():
    table = training()
    assert examples_of(table, [0, 1], 3, 0, 5) == examples_of(table, [0, 1], 3, 0, 5)
    drawn = {tuple(examples_of(table, [0], 3, 0, step)[0].passages) for step in range(20)}
    assert len(drawn) > 3


def test_learning_rate_rises_then_falls_to_nothing():
    settings = Train(steps=100, warmup_fraction=0.1, learning_rate=1.0)
    rates = [learning_rate(settings, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[-1] == pytest.approx(1 / 90)
    assert learning_rate(Train(steps=2, warmup_fraction=0.0, learning_rate=1.0), 0) == 1.0
