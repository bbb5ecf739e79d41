import asyncio

import pytest

from reasonembed.artifacts import Artifact
from reasonembed.config import Encode
from reasonembed.errors import UserError
from reasonembed.serving.active_index import ActiveIndex, IndexVersion, NoServableIndexError
from reasonembed.serving.encoders import ServedModel


def version(uri):
    return IndexVersion(uri, Artifact(uri, {"fingerprint": uri}), ServedModel("m", "m", Encode()), ())


def test_a_rejected_index_leaves_the_current_one_and_is_not_retried_soon():
    attempts, seconds = [], [0.0]

    async def load_version(uri):
        attempts.append(uri)
        if uri.startswith("broken"):
            raise UserError("it is")
        return version(uri)

    async def main():
        active = ActiveIndex(load_version, lambda: seconds[0])
        await active.activate_first(["broken1", "a", "b"])
        assert active.version.uri == "a"
        assert not await active.activate("broken2")
        assert not await active.activate("broken2")
        assert active.version.uri == "a"
        seconds[0] = 61
        assert not await active.activate("broken2")
        assert await active.activate("b")
        assert await active.activate("b")
        assert active.version.uri == "b"
        with pytest.raises(NoServableIndexError, match="no index can be served; broken3: UserError: it is"):
            await ActiveIndex(load_version).activate_first(["broken3", "broken4"])

    asyncio.run(main())
    assert attempts == ["broken1", "a", "broken2", "broken2", "b", "broken3", "broken4"]
