"""API keys: who may use the endpoint."""

import hmac
import os
from collections.abc import Mapping
from hashlib import sha256

from reasonembed import storage
from reasonembed.errors import UserError

VARIABLE = "SERVE_API_KEYS"
MIN_KEY_LENGTH = 16


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


def read_keys(file: str | None, environment: Mapping[str, str] = os.environ) -> ApiKeys:
    """Reads the keys from ``serve.keys_file`` or else from ``SERVE_API_KEYS``; there are none if neither is set.

    Args:
        file: path or URI; None: the environment is read.
        environment: variables by name.

    Raises:
        UserError: the file does not exist or holds no key, or a line is not ``name: key``.
    """
    if file is None:
        source, text = VARIABLE, environment.get(VARIABLE, "")
    else:
        source = file
        try:
            text = storage.read_bytes(file).decode()
        except FileNotFoundError:
            raise UserError(f"serve.keys_file {file} does not exist") from None
    keys: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, key = (part.strip() for part in line.partition(":"))
        if not (name and colon and key):
            raise UserError(f"{source}, line {number}: write `name: key`")
        if len(key) < MIN_KEY_LENGTH:
            raise UserError(f"{source}, line {number}: the key of {name!r} is shorter than {MIN_KEY_LENGTH} characters")
        if name in keys:
            raise UserError(f"{source}, line {number}: {name!r} already has a key; remove one of the two lines")
        keys[name] = key
    if file is not None and not keys:
        raise UserError(f"serve.keys_file {file} holds no key; add lines `name: key`")
    return ApiKeys(keys)
