import pyarrow as pa
import pytest
from factories import training_rows

from reasonembed.config import Train
from reasonembed.errors import UserError
from reasonembed.redapter.batch_plan import (
    BATCHES,
    held_out_ids,
    plan_steps,
    rows_per_rank,
    sample_batch_row,
    to_examples,
)
from reasonembed.redapter.minhash import HASHES, text_key


def train(**values):
    return Train(**{"workers": 1, "batch_size": 3, "group_size": 4} | values)


def rows_of(task, count):
    return [(task, f"{task}{n}") for n in range(count)]


def sampled_example(row, group_size=4, step=0, **settings):
    batch_row = sample_batch_row(row, step, 0, group_size, train(**settings), seed=0)
    return to_examples(pa.Table.from_pylist([batch_row], schema=BATCHES))[0]


def test_a_step_has_one_task_and_an_epoch_every_row_at_most_once():
    steps = plan_steps(rows_of("a", 10) + rows_of("b", 7), train(), seed=0)  # an epoch is 3 batches of a and 2 of b
    assert len(steps) == 5
    assert all({q[0] for q in step.query_ids} == {step.task} for step in steps)
    ids = [q for step in steps for q in step.query_ids]
    assert len(ids) == len(set(ids)) == 15


def test_a_longer_plan_begins_with_the_shorter_one():
    rows = rows_of("a", 20)
    long, short = (plan_steps(rows, train(steps=steps), seed=3) for steps in (12, 7))
    assert long[:7] == short
    assert plan_steps(rows, train(steps=12), seed=4) != long


def test_epochs_and_shapes():
    settings = train(batch_size=4, group_size=3, shapes={"b": (6, 2)})
    rows = rows_of("a", 8) + rows_of("b", 4)
    steps = plan_steps(rows, settings, seed=0)
    assert sorted((step.task, step.group_size, len(step.query_ids)) for step in steps) == [
        ("a", 3, 4),
        ("a", 3, 4),
        ("b", 6, 2),
        ("b", 6, 2),
    ]
    assert len(plan_steps(rows, settings.model_copy(update={"epochs": 2.5}), seed=0)) == 10
    with pytest.raises(ValueError, match="12 passages"):
        train(batch_size=4, group_size=3, shapes={"b": (6, 3)})


def test_too_few_rows_for_a_batch_are_an_error():
    with pytest.raises(UserError, match="batch_size is 8, the largest task has 5"):
        plan_steps(rows_of("a", 5) + rows_of("b", 3), train(batch_size=8), seed=0)


def test_the_held_out_set_keeps_its_queries_when_a_row_is_added():
    few, more = rows_of("a", 30), rows_of("a", 31)
    ids = held_out_ids(few, 5, seed=0)
    assert len(ids) == 5
    assert len(ids & held_out_ids(more, 5, seed=0)) >= 4
    assert held_out_ids(few, 5, seed=1) != ids


def test_a_group_is_a_positive_and_negatives_that_repeat_only_to_fill():
    row = training_rows()[2]
    example = sampled_example(row, group_size=6)
    assert example.passages[0] in row["pos"]
    assert sorted(example.passages[1:]) == sorted(row["neg"])
    score_by_text = dict(zip(row["neg"], row["neg_score"], strict=True))
    assert example.scores[1:] == pytest.approx([score_by_text[text] for text in example.passages[1:]])
    assert example.positive_keys == sorted(text_key(text) for text in row["pos"])
    assert example.keys == [text_key(text) for text in example.passages]
    assert example.signatures.shape == (6, HASHES)
    larger = sampled_example(row, group_size=9)
    assert len(larger.passages) == 9
    assert set(larger.passages[1:]) == set(row["neg"])


def test_several_positives_and_negatives_by_grade():
    row = training_rows()[1]
    example = sampled_example(row, group_size=4, positives=2)
    assert example.positives == 2
    assert sorted(example.passages[:2]) == sorted(row["pos"])
    for step in range(10):
        assert sorted(sampled_example(row, 3, step, negatives="stratified").grades[1:]) == [1, 2]


def test_a_group_with_too_few_positives_is_filled_with_negatives():
    row = training_rows()[1]
    one_positive = row | {"pos": row["pos"][:1], "pos_score": [0.9], "pos_grade": [5]}
    example = sampled_example(one_positive, group_size=4, positives=2)
    assert (example.positives, len(example.passages)) == (1, 4)


def test_the_sample_depends_on_seed_and_step_alone():
    row = training_rows()[0]
    assert sampled_example(row, step=5).passages == sampled_example(row, step=5).passages
    assert len({tuple(sampled_example(row, 3, step).passages) for step in range(20)}) > 3


def test_rows_are_split_over_the_ranks_as_equally_as_possible():
    assert rows_per_rank(7, 3) == [3, 2, 2]
    assert rows_per_rank(2, 3) == [1, 1, 0]
