import asyncio
import threading

import numpy as np
import pytest

from reasonembed.config import Encode
from reasonembed.distributed.serve import encoder_replica
from reasonembed.distributed.serve.application_args import ServeArgs
from reasonembed.distributed.serve.encoder_replica import EncoderReplica
from reasonembed.serving.encoders import ServedModel
from reasonembed.serving.refusals import RequestRefused


class WordEncoder:
    """Encodes a text as its number of words, and records the threads in which texts are tokenised."""

    threads: list

    def __init__(self, model, settings, device):
        WordEncoder.threads = []

    def tokenize(self, texts):
        WordEncoder.threads.append(threading.get_ident())
        return [[1] * len(text.split()) for text in texts]

    def encode(self, ids):
        return np.array([[len(row)] for row in ids], np.float32)


class NoMetrics:
    def observe_batch(self, batch):
        pass


@pytest.fixture
def replica(monkeypatch):
    monkeypatch.setitem(encoder_replica.TEXT_ENCODERS, "transformers", WordEncoder)
    monkeypatch.setattr(encoder_replica, "load_index_artifact", lambda uri: uri)
    monkeypatch.setattr(ServedModel, "from_index", lambda index: ServedModel("maker/model", "revision", Encode()))
    return EncoderReplica(ServeArgs(tokens=60_000), NoMetrics())


def test_long_texts_are_tokenised_outside_the_event_loop(replica):
    async def encode():
        short = await replica.encode("index", ["a b", "c"], "none", "")
        long = await replica.encode("index", ["w " * 50_000], "none", "")
        return short, long

    (vectors, tokens), (long_vectors, long_tokens) = asyncio.run(encode())
    assert (vectors.tolist(), tokens) == ([[2], [1]], 3)
    assert (long_vectors.tolist(), long_tokens) == ([[50_000]], 50_000)
    loop_thread = threading.get_ident()
    assert [thread == loop_thread for thread in WordEncoder.threads] == [True, False]


def test_too_many_tokens_are_refused(replica):
    with pytest.raises(RequestRefused, match="60000 tokens") as error:
        asyncio.run(replica.encode("index", ["w " * 50_000] * 9, "none", ""))
    assert (error.value.status, error.value.code) == (413, "too_long")
