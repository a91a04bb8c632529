"""Shows a key that does not change, in a header of the vendor's choice."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from pydantic import SecretStr

from services.router.providers.own_credential import without_owner
from services.router.providers.translated import Outgoing, Signer
from services.router.upstream_types import Target, build_headers

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_JSON: Final = "application/json"
_ACCEPT: Final = {True: "text/event-stream", False: _JSON}


class KeySigner:
    """Sends `key` in the header `header`, if there is one, with `fields` that never change."""

    def __init__(
        self, header: str, key: SecretStr, fields: Mapping[str, str] = _NOTHING, *, scheme: str = ""
    ) -> None:
        self._header = header
        self._scheme = scheme
        self._bare = {"user-agent": "turnpike", **without_owner(fields)}
        self._fields = {"user-agent": "turnpike", **fields, **self._shown(key)}

    async def headers(
        self,
        target: Target,
        outgoing: Outgoing,
        *,
        is_streaming: bool,
        deadline_s: float,
        credential: SecretStr | None = None,
    ) -> bytes:
        """Return the headers of one POST; see `translated.Signer`."""
        del deadline_s
        fields = self._fields if credential is None else {**self._bare, **self._shown(credential)}
        sent = {"content-type": _JSON, "accept": _ACCEPT[is_streaming]}
        return build_headers(target, {**fields, **sent, **outgoing.headers})

    def probe_headers(self, target: Target) -> bytes:
        """Return the headers of a probe."""
        return build_headers(target, self._fields)

    def _shown(self, key: SecretStr) -> dict[str, str]:
        secret = key.get_secret_value()
        return {self._header: f"{self._scheme} {secret}".strip()} if secret else {}


class OwnKeySigner:
    """Shows an account's own key as `own` does, and without one signs as `usual` does."""

    def __init__(self, usual: Signer, own: KeySigner) -> None:
        self._usual = usual
        self._own = own

    async def headers(
        self,
        target: Target,
        outgoing: Outgoing,
        *,
        is_streaming: bool,
        deadline_s: float,
        credential: SecretStr | None = None,
    ) -> bytes:
        """Return the headers of one POST; see `translated.Signer`."""
        signer: Signer = self._usual if credential is None else self._own
        return await signer.headers(
            target,
            outgoing,
            is_streaming=is_streaming,
            deadline_s=deadline_s,
            credential=credential,
        )

    def probe_headers(self, target: Target) -> bytes:
        """Return the headers of a probe."""
        return self._usual.probe_headers(target)
