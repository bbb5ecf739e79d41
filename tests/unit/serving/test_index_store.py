import asyncio
import threading

import pytest
from small_indexes import write_index

from reasonembed.serving.index_shards import IndexShards
from reasonembed.serving.index_store import LOOP_BYTES, LOOP_DOCUMENTS, LocalStore, ShardedStore
from reasonembed.serving.refusals import RequestRefused


@pytest.fixture
def uri(tmp_path):
    many = [f"text {number}" for number in range(LOOP_DOCUMENTS)]
    return write_index(tmp_path / "v1", [["x" * (LOOP_BYTES + 1), *many], ["last"]])


@pytest.fixture
def threads(monkeypatch):
    """Records for every call of ``IndexShards.documents`` whether it ran on the event loop."""
    on_loop = []

    def documents(self, *arguments):
        on_loop.append(threading.current_thread() is threading.main_thread())
        return original(self, *arguments)

    original = IndexShards.documents
    monkeypatch.setattr(IndexShards, "documents", documents)
    return on_loop


def test_many_or_long_documents_are_read_in_a_thread(uri, threads):
    store = LocalStore()
    everything = list(range(LOOP_DOCUMENTS + 2))

    async def read():
        documents = [await store.documents(uri, positions) for positions in ([1], [0], everything)]
        return [*documents, await store.documents(uri, [0], with_text=False)]

    one, long, all_documents, without_text = asyncio.run(read())
    assert one == {1: {"task": "a", "doc_id": "1", "text": "text 0"}}
    assert len(long[0]["text"]) == LOOP_BYTES + 1
    assert list(all_documents) == everything
    assert without_text == {0: {"task": "a", "doc_id": "0"}}
    assert threads == [True, False, False, True]


@pytest.mark.parametrize("processes", [1, 2])
def test_texts_above_the_limit_are_refused_before_they_are_read(uri, threads, processes):
    stores = [LocalStore(number, processes) for number in range(processes)]
    store = ShardedStore(stores) if processes > 1 else stores[0]

    async def read(positions, **options):
        return await store.documents(uri, positions, **options)

    with pytest.raises(RequestRefused, match=f"larger than {LOOP_BYTES} bytes") as error:
        asyncio.run(read([0], max_bytes=LOOP_BYTES))
    assert (error.value.status, error.value.code) == (413, "response_too_large")
    assert len(threads) < processes  # The other process, which does not hold the text, may have read nothing already.
    assert asyncio.run(read([0], max_bytes=LOOP_BYTES, with_text=False))[0]["doc_id"] == "0"
    assert asyncio.run(read([1, LOOP_DOCUMENTS + 1], max_bytes=10))[LOOP_DOCUMENTS + 1]["text"] == "last"
