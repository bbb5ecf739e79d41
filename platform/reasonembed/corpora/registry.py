"""The readers by the name of their format: a new format is one module in this package and one entry in ``READERS``."""

from collections.abc import Mapping

from reasonembed.corpora.beir import BeirReader
from reasonembed.corpora.bright import BrightReader
from reasonembed.corpora.files import FilesReader
from reasonembed.corpora.pydocs import PydocsReader
from reasonembed.corpora.r2med import R2medReader
from reasonembed.corpora.reader import Reader
from reasonembed.errors import UserError

READERS: Mapping[str, Reader] = {
    "pydocs": PydocsReader(),
    "bright": BrightReader(),
    "bright-long": BrightReader(long=True),
    "r2med": R2medReader(),
    "beir": BeirReader(),
    "files": FilesReader(),
}


def source_forms() -> str:
    """Returns how sources are written, for error messages: ``pydocs, bright:<folder or hub id>, ... or ...``."""
    forms = [f"{name}:{reader.location_form}" if reader.location_form else name for name, reader in READERS.items()]
    return f"{', '.join(forms[:-1])} or {forms[-1]}"


def parse_source(source: str) -> tuple[str, str]:
    """Splits ``<format>:<location>``; the location of a format without one (``pydocs``) is empty.

    Raises:
        UserError: the format is unknown, or its location is missing.
    """
    name, _, location = source.partition(":")
    if name not in READERS or bool(location) != bool(READERS[name].location_form):
        raise UserError(f"source {source!r} is not known; write {source_forms()}")
    return name, location
