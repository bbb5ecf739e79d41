"""Where work goes that does not ask for a place of its own: one answer for the whole process, as Ray Data's context is.
Workers get their places from the driver's calls."""

from reasonembed.config import Resources

_data = Resources()


def set_default_resources(place: Resources) -> None:
    """Send tasks and the maps of Ray Data to ``cluster.data`` from now on."""
    global _data  # noqa: PLW0603
    _data = place


def default_resources() -> Resources:
    return _data
