"""Opens AI Studio and Vertex AI: whose codec is used, and who we are there."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from kit.clock import Clock
from services.router.google_entries import METADATA, Form
from services.router.providers.fetch import ImageFetcher
from services.router.providers.google.gcp_token import (
    Granter,
    MetadataGranter,
    ServiceAccountGranter,
    TokenSource,
)
from services.router.providers.google.gemini_codec import GeminiCodec
from services.router.providers.google.vertex_claude import VertexClaudeCodec
from services.router.providers.google.vertex_openai import VertexOpenAiCodec
from services.router.providers.key_signer import KeySigner
from services.router.providers.own_credential import refuse_credential
from services.router.providers.port import ProviderError
from services.router.providers.translated import Codec, Outgoing, Translated
from services.router.upstream import HttpPool, Target, build_headers

_STREAM: Final = "text/event-stream"
_JSON: Final = "application/json"
_UNAUTHENTICATED: Final = 401


@dataclass(frozen=True, slots=True, kw_only=True)
class VertexAccount:
    """Where a project's models are, and who we are there.

    `credentials` is the path of a key file or `metadata`; `claude_version` is that of Anthropic's
    API there.
    """

    base_url: str
    credentials: str
    metadata_url: str
    claude_version: str


class TokenSigner:
    """Shows an access token."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source

    async def headers(
        self,
        target: Target,
        outgoing: Outgoing,
        *,
        is_streaming: bool,
        deadline_s: float,
        credential: SecretStr | None = None,
    ) -> bytes:
        """Return the headers of one POST; see `translated.Signer`.

        Raises:
            ProviderError: There is no token.
        """
        refuse_credential(credential)
        token = await self._source.token(deadline_s=deadline_s)
        fields = {"user-agent": "turnpike", "authorization": f"Bearer {token}"}
        return _headers(target, outgoing, fields, is_streaming=is_streaming)

    def probe_headers(self, target: Target) -> bytes:
        """Return the headers of a probe, which shows nothing: any answer will do."""
        return build_headers(target, {"user-agent": "turnpike"})

    def forget(self) -> None:
        """Drop the token: the upstream does not take it."""
        self._source.forget()


class VertexProvider(Translated):
    """One model on Vertex AI."""

    def refused(self, error: ProviderError) -> None:
        """Drop a token that the upstream does not take."""
        if error.status == _UNAUTHENTICATED and isinstance(self._signer, TokenSigner):
            self._signer.forget()


@asynccontextmanager
async def open_ai_studio(
    *, base_url: str, api_key: SecretStr, pool: HttpPool, fetcher: ImageFetcher, clock: Clock
) -> AsyncIterator[Translated]:
    """Open a provider for Google AI Studio; pool and fetcher stay the caller's.

    Raises:
        ValueError: The base URL cannot be used.
    """
    yield Translated(
        GeminiCodec("ai_studio"),
        KeySigner("x-goog-api-key", api_key),
        base_url=base_url,
        pool=pool,
        fetcher=fetcher,
        clock=clock,
    )


@asynccontextmanager
async def open_vertex(
    account: VertexAccount, form: Form, *, pool: HttpPool, fetcher: ImageFetcher, clock: Clock
) -> AsyncIterator[Translated]:
    """Open a provider for a model on Vertex AI; pool and fetcher stay the caller's.

    Raises:
        ValueError: A URL cannot be used.
    """
    yield VertexProvider(
        _codec(form, account),
        TokenSigner(TokenSource(_granter(account, pool, clock))),
        base_url=account.base_url,
        pool=pool,
        fetcher=fetcher,
        clock=clock,
    )


def _codec(form: Form, account: VertexAccount) -> Codec:
    if form == "gemini":
        return GeminiCodec("vertex")
    if form == "anthropic":
        return VertexClaudeCodec(account.claude_version)
    return VertexOpenAiCodec()


def _granter(account: VertexAccount, pool: HttpPool, clock: Clock) -> Granter:
    if account.credentials == METADATA:
        return MetadataGranter(account.metadata_url, pool=pool)
    return ServiceAccountGranter(Path(account.credentials), pool=pool, clock=clock)


def _headers(
    target: Target, outgoing: Outgoing, fields: dict[str, str], *, is_streaming: bool
) -> bytes:
    accept = _STREAM if is_streaming else _JSON
    sent = {**fields, "content-type": _JSON, "accept": accept, **outgoing.headers}
    return build_headers(target, sent)
