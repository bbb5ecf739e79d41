"""Slow work in threads, so that the event loop can answer other requests at the same time."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from reasonembed.serving.refusals import RequestRefused

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
LOOP_CHARS = 4_096  # Characters that are tokenised on the event loop, which takes about 2 ms.
GROUP_CHARS = 65_536  # Characters that are tokenised at once, unless a single text is longer.


async def run_in_thread_if(
    slow: bool, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """Calls a function, in a thread if it is slow; a thread costs about 0.1 ms, which is too much for small requests.

    Args:
        slow: whether the call takes longer than a few milliseconds.
        function: should be Python code that is interpreted step by step, or C code that releases the interpreter lock:
            one long call of other C code stops the event loop from a thread, too.
        args: of the function.
        kwargs: of the function.
    """
    if slow:
        return await asyncio.to_thread(function, *args, **kwargs)
    return function(*args, **kwargs)


class AsyncTokenizer:
    """Tokenises long texts in a thread, in small groups, so that short texts of other requests come in between.

    Args:
        tokenize: turns texts into token ids. It is never called twice at the same time, because tokenizers of
            transformers are not thread-safe.
    """

    def __init__(self, tokenize: Callable[[Sequence[str]], list[list[int]]]) -> None:
        self._tokenize = tokenize
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, "tokenizer")

    async def tokenize(self, texts: Sequence[str], limit: int) -> list[list[int]]:
        """Returns the token ids of every text.

        Args:
            texts: of one request.
            limit: largest number of tokens of all texts.

        Raises:
            RequestRefused: the texts have more tokens.
        """
        ids: list[list[int]] = []
        tokens = 0
        for group in _groups(texts):
            ids += await self._tokenize_group(group)
            tokens += sum(map(len, ids[-len(group) :]))
            if tokens > limit:
                raise RequestRefused(413, "too_long", f"a request may have {limit} tokens, and these texts have more")
        return ids

    async def _tokenize_group(self, texts: list[str]) -> list[list[int]]:
        if sum(map(len, texts)) <= LOOP_CHARS and self._lock.acquire(blocking=False):
            try:
                return self._tokenize(texts)
            finally:
                self._lock.release()
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._tokenize_with_lock, texts)

    def _tokenize_with_lock(self, texts: list[str]) -> list[list[int]]:
        with self._lock:
            return self._tokenize(texts)


def _groups(texts: Sequence[str]) -> Iterator[list[str]]:
    group: list[str] = []
    chars = 0
    for text in texts:
        if group and chars + len(text) > GROUP_CHARS:
            yield group
            group, chars = [], 0
        group.append(text)
        chars += len(text)
    if group:
        yield group
