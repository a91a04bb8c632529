"""Who we are at AWS: a signature for each request, or a key of Bedrock's own."""

from typing import Final

from pydantic import SecretStr

from kit.clock import Clock
from services.router.providers.aws.keys import Keys
from services.router.providers.aws.sign import Scope, Unsigned, signed_headers
from services.router.providers.own_credential import refuse_credential
from services.router.providers.translated import Outgoing
from services.router.upstream import Target, build_headers

_AGENT: Final = {"user-agent": "turnpike"}


class AwsSigner:
    """Signs each request with the keys of that moment."""

    def __init__(self, keys: Keys, scope: Scope, *, clock: Clock) -> None:
        self._keys = keys
        self._scope = scope
        self._clock = clock

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
        refuse_credential(credential)
        credentials = await self._keys.current(deadline_s)
        headers = {name.lower(): value for name, value in outgoing.headers.items()}
        request = Unsigned(
            "POST", target.path, {"host": target.authority, **headers}, outgoing.body
        )
        unix_s = self._clock.unix_ms() // 1000
        signed = signed_headers(request, credentials, self._scope, unix_s=unix_s)
        return build_headers(target, {**_AGENT, **headers, **signed})

    def probe_headers(self, target: Target) -> bytes:
        """Return the headers of a probe, which says nothing about us."""
        return build_headers(target, _AGENT)
