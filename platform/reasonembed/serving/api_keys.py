"""API keys: who may use the endpoint."""

import hmac
import logging
import os
import re
from collections.abc import Mapping
from hashlib import sha256

from pyarrow.fs import FileType

from reasonembed import storage
from reasonembed.errors import UserError

VARIABLE = "SERVE_API_KEYS"
MIN_KEY_LENGTH = 16
BYTE_ORDER_MARK = "\ufeff"
LINE_END = re.compile(r"\r\n|\r|\n")  # ``str.splitlines`` would also split at characters that editors do not show.

logger = logging.getLogger(__name__)


class ApiKeys:
    """API keys by the names of their holders. Only their hashes are stored.

    Args:
        keys: by the holder's name.
    """

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._hashes = {name: sha256(key.encode()).digest() for name, key in keys.items()}

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def holder(self, presented_key: str) -> str | None:
        """Returns the name of the key's holder; None if the key is unknown.

        The time does not depend on the key: it is compared with all keys, each in constant time.
        """
        presented_hash, holder = sha256(presented_key.encode()).digest(), None
        for name, known_hash in self._hashes.items():
            if hmac.compare_digest(known_hash, presented_hash):
                holder = name
        return holder

    def reload(self) -> None:
        """Reads the keys again if their source has changed; keys that do not come from a file never change."""


class ApiKeysFile(ApiKeys):
    """API keys of a file, which can be changed while the endpoint runs.

    Args:
        file: path or URI.

    Raises:
        UserError: the file does not exist or holds no key, or a line is not ``name: key``.
    """

    def __init__(self, file: str) -> None:
        self._file, self._logged_error = file, ""
        self._version = self._file_version()  # Before reading, so that ``reload`` notices a change in between.
        super().__init__(self._read())

    def reload(self) -> None:
        """Reads the keys again if the file has changed. If it is missing or invalid now, the current keys stay and one
        line is logged."""
        try:
            version = self._file_version()
            if version == self._version:
                return
            self._hashes = ApiKeys(self._read())._hashes
        except Exception as error:  # noqa: BLE001  Whatever is wrong with the file, the endpoint must go on.
            # The version is not stored, so that the next call tries again: the cause may be a passing one.
            if str(error) != self._logged_error:
                logger.error("%s; the current keys stay", error)
            self._logged_error = str(error)
            return
        self._version, self._logged_error = version, ""
        logger.warning("serve.keys_file %s has changed and now holds %d keys", self._file, len(self._hashes))

    def _file_version(self) -> tuple[int, int] | None:
        """Returns time of modification in nanoseconds and size in bytes; None if there is no file."""
        filesystem, path = storage.open_filesystem(self._file)
        info = filesystem.get_file_info(path)
        return (info.mtime_ns, info.size) if info.type == FileType.File else None

    def _read(self) -> dict[str, str]:
        try:
            keys = parse_keys(storage.read_bytes(self._file).decode(), self._file)
        except FileNotFoundError:
            raise UserError(f"serve.keys_file {self._file} does not exist") from None
        except OSError as error:
            raise UserError(f"serve.keys_file {self._file} cannot be read: {error}") from None
        except UnicodeDecodeError:
            raise UserError(f"serve.keys_file {self._file} is not a text in UTF-8; save it in this encoding") from None
        if not keys:
            raise UserError(f"serve.keys_file {self._file} holds no key; add lines `name: key`")
        return keys


def read_keys(file: str | None, environment: Mapping[str, str] = os.environ) -> ApiKeys:
    """Reads the keys from ``serve.keys_file`` or else from ``SERVE_API_KEYS``; there are none if neither is set.

    Args:
        file: path or URI; None: the environment is read.
        environment: variables by name.

    Raises:
        UserError: the file does not exist or holds no key, or a line is not ``name: key``.
    """
    if file is not None:
        return ApiKeysFile(file)
    return ApiKeys(parse_keys(environment.get(VARIABLE, ""), VARIABLE))


def parse_keys(text: str, source: str) -> dict[str, str]:
    """Returns keys by the names of their holders.

    Args:
        text: lines ``name: key``; empty lines and lines that start with ``#`` are ignored.
        source: named in errors, which never show a key.

    Raises:
        UserError: a line is invalid.
    """
    keys: dict[str, str] = {}
    lines = LINE_END.split(text.removeprefix(BYTE_ORDER_MARK))
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        name, colon, key = (part.strip() for part in line.partition(":"))
        if not (name and colon and key):
            raise UserError(f"{source}, line {number}: write `name: key`")
        if not (name + key).isprintable():  # An invisible character before `#` would make a comment a key.
            raise UserError(f"{source}, line {number}: contains an invisible character; type the line again")
        if len(key) < MIN_KEY_LENGTH:
            raise UserError(f"{source}, line {number}: the key of {name!r} is shorter than {MIN_KEY_LENGTH} characters")
        if name in keys:
            raise UserError(f"{source}, line {number}: {name!r} already has a key; remove one of the two lines")
        keys[name] = key
    return keys
