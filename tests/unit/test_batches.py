import numpy as np
import pyarrow as pa
import pytest
import torch
from parts import training_rows

from reasonembed.config import Train
from reasonembed.errors import UserError
from reasonembed.redapter.batch_plan import BATCHES, draw, examples_of, hold_out, plan_steps
from reasonembed.redapter.grad_cache import split_further
from reasonembed.redapter.loop import learning_rate
from reasonembed.redapter.masking import relate
from reasonembed.redapter.minhash import HASHES, minhash_signature, minhash_signatures, text_key


def train(**values):
    return Train(**{"workers": 1, "batch_size": 3, "group_size": 4} | values)


def rows_of(task, count):
    return [(task, f"{task}{n}") for n in range(count)]


def test_a_step_has_one_task_and_an_epoch_every_row_at_most_once():
    steps = plan_steps(rows_of("a", 10) + rows_of("b", 7), train(), seed=0)  # 3 batches of a and 2 of b make an epoch
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


def test_too_few_rows_for_a_batch():
    with pytest.raises(UserError, match="batch_size is 8, the largest task has 5"):
        plan_steps(rows_of("a", 5) + rows_of("b", 3), train(batch_size=8), seed=0)


def test_the_dev_set_keeps_its_queries_when_rows_are_added():
    few, many = rows_of("a", 30), rows_of("a", 31)
    held = hold_out(few, 5, seed=0)
    assert len(held) == 5
    assert len(held & hold_out(many, 5, seed=0)) >= 4
    assert hold_out(few, 5, seed=1) != held


def drawn(row, group_size=4, step=0, **settings):
    table = pa.Table.from_pylist([draw(row, step, 0, group_size, train(**settings), seed=0)], schema=BATCHES)
    return examples_of(table)[0]


def test_a_group_is_a_positive_and_negatives_without_replacement_unless_to_fill():
    row = training_rows()[2]
    example = drawn(row, group_size=6)
    assert example.passages[0] in row["pos"]
    assert sorted(example.passages[1:]) == sorted(row["neg"])
    by_text = dict(zip(row["neg"], row["neg_score"], strict=True))
    assert example.scores[1:] == pytest.approx([by_text[text] for text in example.passages[1:]])
    assert example.positive_keys == sorted(text_key(text) for text in row["pos"])
    assert example.keys == [text_key(text) for text in example.passages]
    assert example.signatures.shape == (6, HASHES)
    filled = drawn(row, group_size=9)
    assert len(filled.passages) == 9
    assert set(filled.passages[1:]) == set(row["neg"])


def test_several_positives_and_negatives_by_grade():
    row = training_rows()[1]
    example = drawn(row, group_size=4, positives=2)
    assert example.positives == 2
    assert sorted(example.passages[:2]) == sorted(row["pos"])
    for step in range(10):
        assert sorted(drawn(row, 3, step, negatives="stratified").grades[1:]) == [1, 2]
    # More are asked for than there are: the group is filled with negatives.
    lone = row | {"pos": row["pos"][:1], "pos_score": [0.9], "pos_grade": [5]}
    example = drawn(lone, group_size=4, positives=2)
    assert (example.positives, len(example.passages)) == (1, 4)


def test_what_is_drawn_follows_from_seed_and_step():
    row = training_rows()[0]
    assert drawn(row, step=5).passages == drawn(row, step=5).passages
    assert len({tuple(drawn(row, 3, step).passages) for step in range(20)}) > 3


def test_signatures_tell_near_duplicates_from_others():
    words = [f"word{n}" for n in range(200)]
    text, near, other = " ".join(words), " ".join([*words[:197], "x", "y", "z"]), " ".join(reversed(words))
    same = lambda a, b: float(np.mean(minhash_signature(a) == minhash_signature(b)))  # noqa: E731
    assert same(text, text.upper()) == 1
    assert same(text, near) == pytest.approx(195 / 201, abs=0.1)
    assert same(text, other) < 0.1
    assert minhash_signatures(["", "a"]).shape == (2, HASHES)


def test_known_positives_equal_texts_and_near_duplicates_are_no_negatives():
    words = " ".join(f"word{n}" for n in range(100))
    base = training_rows()[0] | {"pos": [words, "known positive"], "neg": ["one thing", "another thing"]}
    base |= {"neg_score": [0.1, 0.2], "neg_grade": [1, 1]}
    # The second query's negatives: the first one's other positive, white space apart, and a near copy of its positive.
    other = training_rows()[1] | {"neg": ["known  positive", words + " more"], "neg_score": [0, 0], "neg_grade": [1, 1]}
    examples = [drawn(base, group_size=3), drawn(other, group_size=3)]
    first_is_words = examples[0].passages[0] == words
    found = relate(examples, [6], 0, 0.9, torch.device("cpu"))
    assert found.own.tolist() == [0, 3]
    texts = [text for example in examples for text in example.passages]
    excluded = {texts[i] for i in np.flatnonzero(found.excluded[0].numpy())}
    assert excluded == ({"known  positive", words + " more"} if first_is_words else {"known  positive"})
    assert not found.excluded[1].any()
    strict = relate(examples, [6], 0, 1.0, torch.device("cpu"))
    assert {texts[i] for i in np.flatnonzero(strict.excluded[0].numpy())} == {"known  positive"}


def test_passes_split_until_there_are_enough():
    lengths = [9, 8, 3, 2, 1]
    passes = split_further([[0, 1], [2, 3, 4]], lengths, 4)
    assert len(passes) == 4
    assert sorted(i for one in passes for i in one) == [0, 1, 2, 3, 4]
    assert split_further([[0], [1]], lengths, 2) == [[0], [1]]


def test_learning_rate_rises_then_falls_to_nothing():
    settings = train(warmup_fraction=0.1, learning_rate=1.0)
    rates = [learning_rate(settings, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[-1] == pytest.approx(1 / 90)
    assert learning_rate(train(warmup_fraction=0.0, learning_rate=1.0), 0, 2) == 1.0
