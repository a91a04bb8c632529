"""Shows a key that does not change, in a header of the vendor's choice."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from pydantic import SecretStr

from services.router.providers.translated import Outgoing
from services.router.upstream_types import Target, build_headers

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_JSON: Final = "application/json"
_ACCEPT: Final = {True: "text/event-stream", False: _JSON}


class KeySigner:
    """Sends `key` in the header `header`, if there is one, with `fields` that never change."""

    def __init__(
        self, header: str, key: SecretStr, fields: Mapping[str, str] = _NOTHING, *, scheme: str = ""
    ) -> None:
        secret = key.get_secret_value()
        shown = {header: f"{scheme} {secret}".strip()} if secret else {}
        self._fields = {"user-agent": "turnpike", **fields, **shown}

    async def headers(
        self, target: Target, outgoing: Outgoing, *, is_streaming: bool, deadline_s: float
    ) -> bytes:
        """Return the headers of one POST."""
        del deadline_s
        sent = {"content-type": _JSON, "accept": _ACCEPT[is_streaming]}
        return build_headers(target, {**self._fields, **sent, **outgoing.headers})

    def probe_headers(self, target: Target) -> bytes:
        """Return the headers of a probe."""
        return build_headers(target, self._fields)
