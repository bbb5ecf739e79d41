"""Which index a run would have served: the one its pointer names."""

import json

from reasonembed import artifacts, storage
from reasonembed.errors import UserError


def latest_index(run_root: str) -> str:
    """URI of the index that the run's pointer names.

    Raises:
        UserError: the run has none, or it is damaged.
    """
    place = storage.join(storage.absolute(run_root), "index", artifacts.LATEST)
    if not storage.exists(place):
        raise UserError(f"{run_root} holds no finished index ({place} is missing); run `make quickstart` first")
    try:
        return str(json.loads(storage.read_bytes(place))["uri"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{place} is damaged; the job `index` writes it anew") from None


def candidates(pinned: str | None, run_root: str) -> list[str]:
    """What to begin with, in this order: an index that was named, or the latest and then the others of the run, so that
    a gateway that starts after a broken index was published still finds the one before."""
    if pinned is not None:
        return [storage.absolute(pinned)]
    others = sorted(artifacts.finished(run_root, "index"), key=lambda one: str(one.record["finished"]), reverse=True)
    return list(dict.fromkeys([latest_index(run_root), *(one.uri for one in others)]))
