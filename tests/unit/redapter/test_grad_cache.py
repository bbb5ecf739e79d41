from types import SimpleNamespace

import torch

from reasonembed.redapter.grad_cache import accumulate_gradients, micro_batches, representations, split_further


def test_micro_batches_are_split_until_there_are_enough():
    lengths = [9, 8, 3, 2, 1]
    positions = split_further([[0, 1], [2, 3, 4]], lengths, 4)
    assert len(positions) == 4
    assert sorted(i for batch in positions for i in batch) == [0, 1, 2, 3, 4]
    assert split_further([[0], [1]], lengths, 2) == [[0], [1]]


class LinearEngine:
    """An engine whose model embeds a text as the sum of its ids' embeddings."""

    def __init__(self):
        torch.manual_seed(0)
        self.weight = torch.randn(10, 4, requires_grad=True)
        self.model = SimpleNamespace(pad=lambda ids: ids)

    def __call__(self, ids):
        return torch.stack([self.weight[list(row)].sum(0) for row in ids])

    def backward(self, loss):
        loss.backward()


def test_cached_gradients_equal_those_of_one_backward_pass():
    ids = [[1, 2, 3], [4], [5, 6], [7, 8, 9, 1], [2]]

    def loss(vectors):
        return (vectors @ vectors.T).logsumexp(1).sum()

    direct = LinearEngine()
    loss(direct(ids)).backward()

    cached = LinearEngine()
    batches = micro_batches(ids, 5, 0, same_number_on_all_ranks=False, device="cpu")
    assert len(batches) > 1
    with torch.no_grad():
        vectors = representations(cached, batches, release_memory=True)
    assert torch.equal(vectors, direct(ids).detach())
    vectors.requires_grad_()
    loss(vectors).backward()
    accumulate_gradients(cached, batches, vectors.grad)
    assert torch.allclose(cached.weight.grad, direct.weight.grad, atol=1e-5)
