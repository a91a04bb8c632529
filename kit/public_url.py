"""Which URLs point at the public internet: one strict reading of a URL, and one list of networks.

Both who checks a URL and who connects use this reading, so that no second parser can see another
host in it. A name says nothing about its addresses: who connects checks those with `is_public`.
"""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, NamedTuple

URL_CHARS_MAX: Final = 8192
"""Longest URL."""

_HOST_CHARS_MAX: Final = 253
_PORT_MAX: Final = 65535
_HTTPS_PORT: Final = 443
_URL: Final = re.compile(
    r"https://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>[/?][!-~]*)?",
    re.IGNORECASE,
)
_PRINTABLE: Final = re.compile(r"[!-~]*")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}:")
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PRIVATE_ENDS: Final = (".localhost", ".local", ".localdomain", ".internal", ".home.arpa", ".lan")

_NOT_PUBLIC_4: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's metadata and agent service, reachable from each machine there
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# Mapped and compatible IPv4, NAT64, unique local, link-local and multicast addresses all lie
# outside of what is handed out as global unicast; Teredo and 6to4 lie inside.
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NOT_PUBLIC_6: Final = tuple(
    IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)


class UrlError(ValueError):
    """The URL may not be used; the text says why, as the end of a sentence about it."""


class PublicUrl(NamedTuple):
    """Where an https URL points: `host` is a name in lower case or an address without brackets.

    `path` holds the query as well and starts with a slash.
    """

    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _HTTPS_PORT else f"{host}:{self.port}"


def read_public_url(text: str) -> PublicUrl:
    """Return what an https URL says, when its host can be a public one.

    Refused are other schemes, credentials, anything but printable ASCII, every spelling of an
    address but the usual one, addresses that are not public, names without a dot or with one at
    the end, and names that only exist in private networks. A fragment is left out.

    Raises:
        UrlError: It cannot.

    Source: WHATWG URL, "ends in a number checker"; RFC 6890 and IANA's special-purpose registries;
    read 2026-01.
    """
    if len(text) > URL_CHARS_MAX:
        raise UrlError(f"has {len(text)} characters; {URL_CHARS_MAX} at most.")
    if text[:8].lower() != "https://":
        raise UrlError("must be an https:// URL." if _SCHEME.match(text) else "is not a URL.")
    if not _PRINTABLE.fullmatch(text):
        raise UrlError(
            "must be printable ASCII without spaces; encode the rest with percent signs."
        )
    found = _URL.fullmatch(text.partition("#")[0])
    if found is None:
        raise UrlError("must have the form https://host[:port][/path] without credentials.")
    port = int(found["port"] or _HTTPS_PORT)
    if not 0 < port <= _PORT_MAX:
        raise UrlError(f"has a port that is not from 1 to {_PORT_MAX}.")
    path = found["path"] or "/"
    return PublicUrl(_host(found["host"].lower()), port, path if path[0] == "/" else f"/{path}")


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Return whether an address is global unicast and nothing else is embedded in it."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    return address in _GLOBAL_UNICAST and not any(address in network for network in _NOT_PUBLIC_6)


def _host(host: str) -> str:
    if host.startswith("["):
        return _literal(host[1:-1], IPv6Address)
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _literal(host, IPv4Address)
    if len(host) > _HOST_CHARS_MAX or not all(map(_LABEL.fullmatch, labels)):
        raise UrlError("has no valid host name.")
    if len(labels) == 1 or host.endswith(_PRIVATE_ENDS):
        raise UrlError("must point at a public host.")
    return host


def _literal(text: str, kind: type[IPv4Address | IPv6Address]) -> str:
    try:
        address = kind(text)
    except ValueError:
        raise UrlError("has a host that is no usual spelling of an address.") from None
    if not is_public(address):
        raise UrlError("must point at a public host.")
    return str(address)
