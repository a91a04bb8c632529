"""The transport for upstreams that speak OpenAI's API; the codecs are elsewhere."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from pydantic import SecretStr

from kit.clock import Clock
from services.router.providers.openai.content import PROMPT_FIELDS, ignored_prompt_fields
from services.router.providers.openai.embeddings import (
    encode_embeddings_request,
    read_embeddings,
)
from services.router.providers.openai.errors import error_in_answer
from services.router.providers.openai.exchange import error_body, failure_of, refusal
from services.router.providers.openai.forward import StreamForwarder, invalid
from services.router.providers.openai.media import MEDIA, OpenAiMedia
from services.router.providers.openai.plain import read_completion
from services.router.providers.openai.request import choice_count, encode_request
from services.router.providers.openai.texts import (
    TextForwarder,
    read_text_completion,
    text_choice_count,
)
from services.router.providers.own_credential import as_bearer
from services.router.providers.port import Batch, Body, Call, Failure, ProviderError, Traits
from services.router.providers.telling import telling
from services.router.providers.vectors import ANSWER_BYTES_MAX, too_long
from services.router.upstream import (
    HttpExchange,
    HttpPool,
    ResponseHead,
    Target,
    UpstreamClosedError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
    build_headers,
)
from turnpike.router.v1 import router_pb2

PROBE_S: Final = 2.0
_EVENT_STREAM: Final = b"text/event-stream"
_JSON: Final = b"application/json"
_PATHS: Final[Mapping[int, str]] = {
    router_pb2.OPERATION_COMPLETION: "/completions",
    router_pb2.OPERATION_EMBEDDING: "/embeddings",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAiCompatSettings:
    """Where an upstream is and which of OpenAI's spellings it wants.

    `base_url` is such as `https://api.openai.com/v1`; `max_tokens_field` is `max_tokens` or
    `max_completion_tokens`; `headers` are sent with each request. `takes_cache_marks`: it knows
    prompt-cache markers.
    """

    base_url: str
    api_key: SecretStr | None = None
    path: str = "/chat/completions"
    max_tokens_field: str = "max_tokens"
    headers: Mapping[str, str] = field(default_factory=dict)
    takes_cache_marks: bool = False


class OpenAiCompatProvider:
    """One OpenAI-compatible upstream; opened by `open_openai_compat`."""

    def __init__(
        self,
        settings: OpenAiCompatSettings,
        *,
        pool: HttpPool,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.traits = Traits(takes_cache_marks=settings.takes_cache_marks)
        self._pool = pool
        self._clock = clock
        self._loop = loop
        self._max_tokens_field = settings.max_tokens_field
        self._target = Target.of(settings.base_url, settings.path)
        self._others = {
            operation: Target.of(settings.base_url, path) for operation, path in _PATHS.items()
        }
        self._models = Target.of(settings.base_url, "/models")
        fields = {"user-agent": "turnpike", **settings.headers}
        if settings.api_key is not None:
            fields["authorization"] = f"Bearer {settings.api_key.get_secret_value()}"
        self._fields = fields
        sent = {**fields, "content-type": "application/json"}
        self._stream_headers = build_headers(
            self._target, {**sent, "accept": _EVENT_STREAM.decode()}
        )
        self._plain_headers = build_headers(self._target, {**sent, "accept": _JSON.decode()})
        self._probe_headers = build_headers(self._models, fields)
        self._forwarder = _forwarder
        self._readers = _READERS
        self._media = OpenAiMedia(settings.base_url, fields, pool=pool, clock=clock, loop=loop)

    def stream(self, call: Call, body: Body, *, deadline_s: float) -> AsyncGenerator[Batch, None]:
        """Return the answer's batches; see `services.router.providers.port.Provider`."""
        if call.operation in MEDIA:
            return self._media.stream(call, body, deadline_s=deadline_s)
        stream = self._chat(call, body, deadline_s)
        if PROMPT_FIELDS.isdisjoint(body):
            return stream
        ignored = ignored_prompt_fields(call, body)
        return telling(stream, ignored) if ignored else stream

    async def _chat(self, call: Call, body: Body, deadline_s: float) -> AsyncGenerator[Batch, None]:
        exchange: HttpExchange | None = None
        try:
            exchange = await self._send(call, body, deadline_s)
            head = await exchange.head(deadline_s)
            if head.status != 200:
                now_unix_s = self._clock.unix_ms() / 1000
                raise await refusal(exchange, head, deadline_s, now_unix_s=now_unix_s)
            if not call.is_streaming:
                answer = await self._plain(call, exchange, head, deadline_s)
                yield self._readers[call.operation](call, body, answer)
                return
            await self._check_stream(exchange, head, deadline_s)
            forwarder, read = self._forwarder(call, body), exchange.reader()
            now_s, idle_s = self._loop.time, call.idle_s
            while not forwarder.is_done:
                wait_s = now_s() + idle_s if forwarder.has_content else deadline_s
                try:
                    data = await read(wait_s)
                except (UpstreamClosedError, UpstreamTimeoutError):
                    # Every choice has ended: only usage or `[DONE]` got lost.
                    if not forwarder.is_finished:
                        raise
                    data = b""
                batch = forwarder.feed(data) if data else forwarder.end()
                if forwarder.is_done:
                    exchange.finish()
                if batch is not None:
                    yield batch
        except UpstreamError as error:
            raise failure_of(error, is_late=self._loop.time() >= deadline_s) from error
        finally:
            if exchange is not None:
                exchange.close()

    async def probe(self) -> bool:
        """Return whether `GET /models` gets any answer below 500, a refusal included."""
        deadline_s = self._loop.time() + PROBE_S
        try:
            exchange = await self._pool.request(
                "GET", self._models, headers=self._probe_headers, connect_s=PROBE_S
            )
            try:
                head = await exchange.head(deadline_s)
                with suppress(UpstreamError):
                    await exchange.read_all(deadline_s, self._pool.limits.body_bytes_max)
            finally:
                exchange.close()
        except UpstreamError:
            return False
        return head.status < 500

    async def _send(self, call: Call, body: Body, deadline_s: float) -> HttpExchange:
        target = self._target if not call.operation else self._other(call.operation)
        headers = self._stream_headers if call.is_streaming else self._plain_headers
        if call.credential is not None:
            kind = _EVENT_STREAM if call.is_streaming else _JSON
            sent = {"content-type": _JSON.decode(), "accept": kind.decode()}
            headers = build_headers(target, as_bearer({**self._fields, **sent}, call.credential))
        return await self._pool.request(
            "POST",
            target,
            headers=headers,
            body=self._encoded(call, body),
            connect_s=min(self._pool.limits.connect_s, deadline_s - self._loop.time()),
        )

    def _other(self, operation: int) -> Target:
        target = self._others.get(operation)
        if target is None:
            raise ProviderError(Failure.UNSUPPORTED, "The deployment does not serve this.")
        return target

    def _encoded(self, call: Call, body: Body) -> bytes:
        if not call.operation:
            return encode_request(call, body, max_tokens_field=self._max_tokens_field)
        if call.operation == router_pb2.OPERATION_EMBEDDING:
            return encode_embeddings_request(call, body)
        return encode_request(call, body, max_tokens_field="max_tokens")

    async def _plain(
        self, call: Call, exchange: HttpExchange, head: ResponseHead, deadline_s: float
    ) -> bytes:
        kind = head.media_type
        if kind not in (b"", _JSON, b"text/plain") and not kind.endswith(b"+json"):
            raise invalid("The upstream's answer is not JSON.")
        is_embedding = call.operation == router_pb2.OPERATION_EMBEDDING
        bytes_max = ANSWER_BYTES_MAX if is_embedding else self._pool.limits.body_bytes_max
        try:
            return await exchange.read_all(deadline_s, bytes_max)
        except UpstreamProtocolError as error:
            if error.is_too_big and is_embedding:
                raise too_long() from error
            raise

    async def _check_stream(
        self, exchange: HttpExchange, head: ResponseHead, deadline_s: float
    ) -> None:
        """Refuse what is no event stream; a JSON body may be an error that says why."""
        if head.media_type in (b"", _EVENT_STREAM):
            return
        if head.media_type == _JSON:
            answer = await error_body(exchange, deadline_s)
            if b'"error"' in answer:
                raise error_in_answer(answer)
        raise invalid("The upstream's answer is not an event stream.")


def _forwarder(call: Call, body: Body) -> StreamForwarder:
    if call.operation:
        return TextForwarder(call, choice_count=text_choice_count(body))
    return StreamForwarder(call, choice_count=choice_count(body), has_logprobs="logprobs" in body)


def _read_chat(call: Call, body: Body, answer: bytes) -> Batch:
    return read_completion(call, answer, choice_count=choice_count(body))


_READERS: Final[Mapping[int, Callable[[Call, Body, bytes], Batch]]] = {
    router_pb2.OPERATION_UNSPECIFIED: _read_chat,
    router_pb2.OPERATION_COMPLETION: read_text_completion,
    router_pb2.OPERATION_EMBEDDING: read_embeddings,
}


@asynccontextmanager
async def open_openai_compat(
    settings: OpenAiCompatSettings, *, pool: HttpPool, clock: Clock
) -> AsyncIterator[OpenAiCompatProvider]:
    """Open a provider for one upstream; the pool stays the caller's.

    Raises:
        ValueError: The base URL or a header cannot be sent.
    """
    yield OpenAiCompatProvider(settings, pool=pool, clock=clock, loop=asyncio.get_running_loop())
