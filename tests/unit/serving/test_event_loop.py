import asyncio
import threading

import pytest

from reasonembed.serving.event_loop import GROUP_CHARS, LOOP_CHARS, AsyncTokenizer
from reasonembed.serving.refusals import RequestRefused


class WordTokenizer:
    """Returns the lengths of the words of each text, and records the texts and the thread of every call."""

    def __init__(self):
        self.calls, self.running, self.release = [], 0, threading.Event()
        self.release.set()

    def __call__(self, texts):
        self.running += 1
        assert self.running == 1, "the tokenizer was called twice at the same time"
        self.calls.append((len(texts), threading.current_thread() is threading.main_thread()))
        if sum(map(len, texts)) > LOOP_CHARS:
            assert self.release.wait(10)
        self.running -= 1
        return [[len(word) for word in text.split()] for text in texts]


@pytest.fixture
def words():
    return WordTokenizer()


def test_few_characters_are_tokenised_on_the_event_loop_and_many_in_a_thread(words):
    tokenizer = AsyncTokenizer(words)
    long_text = "word " * LOOP_CHARS
    assert asyncio.run(tokenizer.tokenize(["a bc", "d"], 10)) == [[1, 2], [1]]
    assert asyncio.run(tokenizer.tokenize([long_text], LOOP_CHARS)) == [[4] * LOOP_CHARS]
    assert asyncio.run(tokenizer.tokenize([], 10)) == []
    assert words.calls == [(2, True), (1, False)]


def test_a_short_text_waits_for_one_group_of_a_long_request_and_not_for_all(words):
    tokenizer = AsyncTokenizer(words)
    words.release.clear()
    half = "w" * (GROUP_CHARS // 2)

    async def main():
        finished = []

        async def run(name, texts):
            await tokenizer.tokenize(texts, 1000)
            finished.append(name)

        long = asyncio.create_task(run("long", [half] * 6))
        await asyncio.sleep(0.05)
        short = asyncio.create_task(run("short", ["a"]))
        await asyncio.sleep(0.05)
        words.release.set()
        await asyncio.gather(long, short)
        return finished

    assert asyncio.run(main()) == ["short", "long"]
    assert [count for count, _ in words.calls] == [2, 1, 2, 2]


def test_too_many_tokens_are_refused_before_all_texts_are_tokenised(words):
    tokenizer = AsyncTokenizer(words)
    text = "w " * (GROUP_CHARS // 2)
    with pytest.raises(RequestRefused, match="a request may have 65535 tokens") as error:
        asyncio.run(tokenizer.tokenize([text] * 9, 65_535))
    assert (error.value.status, error.value.code) == (413, "too_long")
    assert len(words.calls) == 2
    assert len(asyncio.run(tokenizer.tokenize([text] * 2, 65_536))) == 2


def test_a_cancelled_request_leaves_the_tokenizer_usable(words):
    tokenizer = AsyncTokenizer(words)
    words.release.clear()

    async def main():
        cancelled = asyncio.create_task(tokenizer.tokenize(["w" * GROUP_CHARS] * 3, 10))
        await asyncio.sleep(0.05)
        cancelled.cancel()
        await asyncio.sleep(0)
        next_one = asyncio.create_task(tokenizer.tokenize(["a b"], 10))
        await asyncio.sleep(0.05)
        words.release.set()
        return await next_one

    assert asyncio.run(main()) == [[1, 1]]
    assert len(words.calls) == 2
