import random

from reasonembed.embedder.token_batches import token_batches


def test_every_position_occurs_once_and_no_batch_exceeds_the_budget():
    rng = random.Random(0)
    lengths = [rng.randint(1, 300) for _ in range(500)]
    batches = token_batches(lengths, 1000)
    assert sorted(i for batch in batches for i in batch) == list(range(500))
    assert all(len(batch) * max(lengths[i] for i in batch) <= 1000 for batch in batches)
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    assert padded < 1.1 * sum(lengths)


def test_a_text_longer_than_the_budget_is_a_batch_of_its_own():
    assert token_batches([5000], 1000) == [[0]]


def test_short_texts_are_separated_from_long_ones_where_that_is_cheaper_than_padding():
    lengths = [5, 90, 6, 100, 4, 5]
    assert token_batches(lengths, 4096) == [[3, 1], [2, 0, 5, 4]]
    assert token_batches(lengths, 4096, "cuda:0") == [[3, 1, 2, 0, 5, 4]]


def test_no_texts_give_no_batches():
    assert token_batches([], 1000) == []
