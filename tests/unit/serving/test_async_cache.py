import asyncio

import pytest

from reasonembed.serving.async_cache import AsyncCache


def test_each_object_is_loaded_once_and_the_last_two_stay():
    loaded = []

    async def main():
        cache = AsyncCache(lambda key: loaded.append(key) or key.upper())
        assert await asyncio.gather(*(cache.get("a") for _ in range(5))) == ["A"] * 5
        for key in ("b", "a", "c", "a", "b"):
            assert await cache.get(key) == key.upper()

    asyncio.run(main())
    assert loaded == ["a", "b", "c", "b"]


def test_a_failed_load_is_repeated_by_the_next_call():
    attempts = []

    def load(key):
        attempts.append(key)
        if len(attempts) == 1:
            raise OSError("not yet")
        return key

    async def main():
        cache = AsyncCache(load)
        errors = await asyncio.gather(*(cache.get("a") for _ in range(2)), return_exceptions=True)
        assert [str(error) for error in errors] == ["not yet"] * 2
        return await cache.get("a")

    assert asyncio.run(main()) == "a"
    assert attempts == ["a", "a"]


def test_a_cancelled_caller_does_not_cancel_the_load_for_the_others():
    async def main():
        started, loading = asyncio.Event(), asyncio.get_running_loop()

        def load(key):
            loading.call_soon_threadsafe(started.set)
            return key

        cache = AsyncCache(load)
        cancelled, other = (asyncio.create_task(cache.get("a")) for _ in range(2))
        await started.wait()
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        return await other

    assert asyncio.run(main()) == "a"
