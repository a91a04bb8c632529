"""Values and errors of the HTTP client for upstreams; nothing here opens a socket."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import urlsplit

_FIELD: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_FORBIDDEN: Final = re.compile(r"[^\x20-\x7e]")
_KEEP_ALIVE_S: Final = re.compile(rb"timeout=(\d{1,6})")
_USUAL_TYPES: Final = frozenset({b"application/json", b"text/event-stream", b""})
_PORTS: Final = {"http": 80, "https": 443}


class UpstreamError(Exception):
    """The exchange with an upstream failed; the text holds nothing that the upstream sent."""


class UpstreamConnectError(UpstreamError):
    """No connection: name not found, refused, unreachable, too slow, or TLS not verified."""


class UpstreamBusyError(UpstreamError):
    """All connections that may be open to this origin are in use."""


class UpstreamTimeoutError(UpstreamError):
    """A wait ran past its deadline; `phase` is `head` or `body`."""

    def __init__(self, phase: str) -> None:
        super().__init__(f"The upstream was silent for too long ({phase}).")
        self.phase = phase


class UpstreamProtocolError(UpstreamError):
    """The answer is not HTTP/1.1 as asked for, or breaks a limit; `is_too_big`: its body's."""

    def __init__(self, message: str, *, is_too_big: bool = False) -> None:
        super().__init__(message)
        self.is_too_big = is_too_big


class UpstreamClosedError(UpstreamError):
    """The upstream closed before the answer was complete; `is_untouched`: before its first byte."""

    def __init__(self, *, is_untouched: bool) -> None:
        super().__init__("The upstream closed the connection before the answer was complete.")
        self.is_untouched = is_untouched


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Bounds of connections and answers; sizes in bytes, times in seconds, counts per origin."""

    connections_max: int = 1024
    idle_max: int = 256
    idle_s: float = 30.0
    connect_s: float = 3.0
    head_bytes_max: int = 65_536
    header_count_max: int = 128
    unread_bytes_max: int = 262_144
    body_bytes_max: int = 33_554_432
    linger_s: float = 1.0
    linger_bytes_max: int = 65_536
    stale_s: float = 1.0


class ResponseHead(NamedTuple):
    """Status and headers; names are in lower case, repeated ones are joined with a comma."""

    status: int
    headers: dict[bytes, bytes]

    @property
    def media_type(self) -> bytes:
        """The content type in lower case, without parameters; empty when there is none."""
        value = self.headers.get(b"content-type", b"")
        if value in _USUAL_TYPES:
            return value
        return value.partition(b";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: `path` holds the query as well and starts with a slash."""

    host: str
    port: int
    tls: bool
    path: str

    @classmethod
    def of(cls, base_url: str, path: str = "") -> "Target":
        """Return the target of a base URL with a path put behind it.

        Raises:
            ValueError: The URL is not `http(s)://host[:port][/path]` in plain ASCII.
        """
        parts = urlsplit(base_url)
        if parts.scheme not in _PORTS or not parts.hostname or parts.username is not None:
            raise ValueError("A base URL has the form http(s)://host[:port][/path].")
        full = parts.path.rstrip("/") + path
        if _FORBIDDEN.search(full) or " " in full:
            raise ValueError("A path holds printable ASCII without spaces.")
        port = parts.port if parts.port is not None else _PORTS[parts.scheme]
        return cls(parts.hostname, port, parts.scheme == "https", full or "/")

    @property
    def authority(self) -> str:
        """What the Host header says: the port only when it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (
            host if self.port == _PORTS["https" if self.tls else "http"] else f"{host}:{self.port}"
        )


def build_headers(target: Target, fields: Mapping[str, str]) -> bytes:
    """Return the constant headers of requests to a target: Host, no compression, and `fields`.

    Build them once per provider; `Content-Length` is added per request.

    Raises:
        ValueError: A name is not a token or a value holds a control or non-ASCII character; the
            text does not repeat the value, which may be a secret.
    """
    lines = [f"host: {target.authority}", "accept-encoding: identity"]
    for name, value in fields.items():
        if not _FIELD.fullmatch(name) or _FORBIDDEN.search(value):
            raise ValueError(f"Header {name!r} cannot be sent.")
        lines.append(f"{name.lower()}: {value}")
    return ("\r\n".join(lines) + "\r\n").encode("ascii")


def keep_alive_s(headers: Mapping[bytes, bytes], idle_s: float) -> float:
    """Return how long to keep an idle connection: a second less than the server says it does."""
    value = headers.get(b"keep-alive")
    told = None if value is None else _KEEP_ALIVE_S.search(value)
    return idle_s if told is None else min(idle_s, max(0.0, int(told[1]) - 1.0))
