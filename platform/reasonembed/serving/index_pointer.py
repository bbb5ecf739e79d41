"""The pointer of a run, ``index/latest``, which names the index to serve."""

import json
import logging
from collections.abc import Iterator

from reasonembed import artifacts, storage
from reasonembed.artifacts import Artifact
from reasonembed.errors import UserError
from reasonembed.serving.index_record import check_index_record, finished_at

logger = logging.getLogger(__name__)


def latest_index(run_root: str) -> str:
    """Returns the URI of the index that the run's pointer names.

    Raises:
        UserError: the run has no pointer, or the pointer is damaged.
    """
    pointer = storage.join(storage.absolute(run_root), "index", artifacts.LATEST)
    if not storage.exists(pointer):
        raise UserError(f"{run_root} holds no finished index ({pointer} is missing); run `make quickstart` first")
    try:
        return str(json.loads(storage.read_bytes(pointer))["uri"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{pointer} is damaged; run the job `index` again to rewrite it") from None


def candidate_indexes(pinned: str | None, run_root: str) -> list[str]:
    """Returns the URIs of the indexes that a gateway may start with, in order of preference.

    After the latest index come the other indexes of the run, newest first. So a gateway that starts after a broken
    index was published can serve the one before it. Indexes with a damaged record are left out with a warning.

    Args:
        pinned: an index that the configuration names; it is the only candidate then.
        run_root: root folder of the run.

    Raises:
        UserError: the run has no pointer, or the pointer is damaged.
    """
    if pinned is not None:
        return [storage.absolute(pinned)]
    newest_first = sorted(_valid_indexes(run_root), key=finished_at, reverse=True)
    return list(dict.fromkeys([latest_index(run_root), *(index.uri for index in newest_first)]))


def _valid_indexes(run_root: str) -> Iterator[Artifact]:
    for index in artifacts.finished(run_root, "index"):
        try:
            check_index_record(index)
        except UserError as error:
            logger.warning("skipped: %s", error)
        else:
            yield index
