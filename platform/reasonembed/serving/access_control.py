"""Decides who may send a request: by key and rate limit, or, without keys, only programs on this machine."""

from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any

from reasonembed.config import Serve
from reasonembed.serving.api_keys import ApiKeys
from reasonembed.serving.rate_limiter import RateLimiter
from reasonembed.serving.refusals import RequestRefused

Header = tuple[bytes, bytes]
PUBLIC_PATHS = frozenset({"/healthz", "/readyz", "/docs", "/redoc", "/openapi.json"})
"""Paths that need no key. Every other path needs one, also a path that does not exist."""
FORWARDED_HEADERS = frozenset({"forwarded", "x-real-ip"})
FORWARDED_PREFIX = "x-forwarded-"


class AccessControl:
    """Admits or refuses requests.

    Args:
        settings: the section ``serve``.
        keys: that give access; without any, only requests from this machine are admitted.
    """

    def __init__(self, settings: Serve, keys: ApiKeys) -> None:
        self._settings, self._keys = settings, keys
        self._rate_limiter = RateLimiter(settings.requests_per_minute)
        self._hosts = {name.lower() for name in (settings.host, *settings.allowed_hosts)}

    def identify(self, headers: Iterable[Header], client: tuple[str, int] | None) -> str | None:
        """Returns the name of the key's holder; None for a program on this machine, if there are no keys.

        Args:
            headers: names in lower case, and values.
            client: address and port of the sender.

        Raises:
            RequestRefused: the sender has no access.
        """
        values = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
        if not self._keys:
            self._check_local(values, client)
            return None
        scheme, _, key = dict(values).get("authorization", "").partition(" ")
        holder = self._keys.holder(key.strip()) if scheme.lower() == "bearer" else None
        if holder is None:
            raise RequestRefused(401, "invalid_api_key", "send a valid key as `Authorization: Bearer KEY`")
        return holder

    def limit_rate(self, holder: str | None) -> None:
        """Counts a request of a key's holder.

        Raises:
            RequestRefused: the holder has sent too many requests.
        """
        if holder is not None and (seconds := self._rate_limiter.take(holder)):
            limit = self._settings.requests_per_minute
            raise RequestRefused(
                429, "rate_limit_exceeded", f"a key may send {limit} requests per minute", retry_after=seconds
            )

    def _check_local(self, headers: list[tuple[str, str]], client: tuple[str, int] | None) -> None:
        """Checks that a program on this machine has sent a request, and neither a proxy nor a foreign web page."""
        if client is None or not is_loopback(client[0]):
            raise RequestRefused(403, "no_keys", "this endpoint has no keys and serves only its own machine")
        for name, _ in headers:
            if name in FORWARDED_HEADERS or name.startswith(FORWARDED_PREFIX):
                raise RequestRefused(
                    403,
                    "no_keys",
                    f"a proxy has forwarded this request (header {name}), and this endpoint has no keys and serves "
                    "only its own machine; configure keys with serve.keys_file",
                )
        # A page of `attacker.example`, whose name points to 127.0.0.1, sends its own name (DNS rebinding).
        hosts = [host_name(value) for name, value in headers if name == "host"]
        if not hosts or not all(is_loopback(host) or host in self._hosts for host in hosts):
            raise RequestRefused(
                403,
                "host_not_allowed",
                "this endpoint has no keys and accepts only the Host headers of its own machine; add the name to "
                "serve.allowed_hosts, or configure keys with serve.keys_file",
            )


def route_path(scope: Mapping[str, Any]) -> str:
    """Returns the path of a request without the prefix under which the application runs, as routes are matched.

    Ray Serve keeps the application's ``route_prefix`` in ``path`` and adds it to ``root_path``.

    Args:
        scope: of the ASGI connection; its path is already percent-decoded, once.
    """
    path, prefix = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(prefix) :] if path.startswith(f"{prefix}/") else path


def is_public(path: str) -> bool:
    """Returns whether a path needs no key.

    The path is compared as it is: a form that another program could read as the same path, with double slashes, dot
    segments or percent-encoded characters, is not public.

    Args:
        path: without prefix.
    """
    return path in PUBLIC_PATHS


def host_name(header: str) -> str:
    """Returns the name in a ``Host`` header in lower case, without port and brackets."""
    header = header.strip().lower()
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Returns whether only this machine can reach an address or host name."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
