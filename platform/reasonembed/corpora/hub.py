"""Data sets on the hub, row by row. The one place that asks it for data."""

from collections.abc import Iterator
from typing import Any

from reasonembed.errors import UserError


def split_names(hub_id: str, config: str) -> list[str]:
    """
    Raises:
        UserError: the hub does not give it.
    """
    import datasets

    with _one_line(hub_id):
        return list(datasets.get_dataset_split_names(hub_id, config))


def hub_rows(hub_id: str, config: str, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, row); see ``split_names`` for errors."""
    import datasets

    with _one_line(hub_id):
        rows = datasets.load_dataset(hub_id, config, split=split)
    for number, row in enumerate(rows, start=1):
        yield f"{hub_id} {config}/{split}, row {number}", row


class _one_line:
    def __init__(self, hub_id: str) -> None:
        self._hub_id = hub_id

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        import datasets

        if isinstance(error, OSError | ValueError | RuntimeError | datasets.exceptions.DatasetsError):
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(
                f"{self._hub_id}: neither a folder here nor a data set that the hub gives ({reason})"
            ) from None
