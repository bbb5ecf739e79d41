"""Process-wide default resources: those of tasks and Ray Data steps that name no others. Workers keep the class's
defaults; what they need comes with the driver's calls."""

from reasonembed.config import Resources

_default = Resources()


def set_default_resources(resources: Resources) -> None:
    """Sets the default resources of this process, normally ``cluster.data``."""
    global _default  # noqa: PLW0603 -- process-wide, as Ray Data's context is
    _default = resources


def default_resources() -> Resources:
    """Returns the default resources of this process."""
    return _default
