"""Data sets of the Hugging Face hub, row by row."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from reasonembed.errors import UserError


def split_names(hub_id: str, config: str) -> list[str]:
    """Returns the splits of a config.

    Raises:
        UserError: the hub does not return the data set.
    """
    import datasets

    with _hub_errors(hub_id):
        return list(datasets.get_dataset_split_names(hub_id, config))


def hub_rows(hub_id: str, config: str, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (position of the row, row) of a split.

    Raises:
        UserError: the hub does not return the data set.
    """
    import datasets

    with _hub_errors(hub_id):
        rows = datasets.load_dataset(hub_id, config, split=split)
    for number, row in enumerate(rows, start=1):
        yield f"{hub_id} {config}/{split}, row {number}", row


@contextmanager
def _hub_errors(hub_id: str) -> Iterator[None]:
    """Turns the errors of ``datasets`` into a ``UserError`` of one line."""
    import datasets

    try:
        yield
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{hub_id} is neither a local folder nor a data set that the hub returns ({reason})") from None
