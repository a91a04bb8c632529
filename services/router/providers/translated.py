"""The transport for upstreams with a wire format of their own; the codecs are elsewhere.

A codec is pure and knows the wire format; a signer knows who we are there. This file knows sockets
and deadlines.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Final, NamedTuple, Protocol

from pydantic import SecretStr

from kit.clock import Clock
from kit.image_magic import image_kind
from services.router.providers.fetch import ImageFetcher, ImageUrl
from services.router.providers.openai.exchange import error_body, failure_of
from services.router.providers.openai.forward import invalid
from services.router.providers.port import Batch, Body, Call, ProviderError, traits_of
from services.router.upstream import (
    HttpExchange,
    HttpPool,
    ResponseHead,
    Target,
    UpstreamClosedError,
    UpstreamError,
    UpstreamTimeoutError,
)

PROBE_S: Final = 2.0
TARGETS_MAX: Final = 64
"""Paths of one upstream whose targets are kept."""


class Outgoing(NamedTuple):
    """A request as an upstream gets it.

    `path` goes behind the base URL, with its query, percent-encoded as it is to be sent; `headers`
    are those of this request alone; `ignored` names request fields that were left aside.
    """

    path: str
    body: bytes
    ignored: tuple[str, ...] = ()
    headers: Mapping[str, str] = {}


class Translator(Protocol):
    """Turns the reads of one streamed answer into batches.

    `is_done` tells that the last batch is out, `is_finished` that only what may be missing is,
    `has_content` that content has been returned.
    """

    @property
    def is_done(self) -> bool:
        """Whether the last batch is out."""

    @property
    def is_finished(self) -> bool:
        """Whether the answer has ended, so that nothing but its usage can be missing."""

    @property
    def has_content(self) -> bool:
        """Whether a batch with content was returned."""

    def feed(self, data: bytes) -> Batch | None:
        """Take a read and return what it completes, or None.

        Raises:
            ProviderError: The stream holds an error or makes no sense.
        """

    def end(self) -> Batch:
        """Take the end of the stream and return the last batch.

        Raises:
            ProviderError: `INCOMPLETE`: the answer has not ended.
        """


class Codec(Protocol):
    """One wire format; pure.

    `stream_type` and `whole_type` are the media types of good answers; `probe_path` is asked to
    find out for free whether the upstream is there. It may have `traits`, see `port.Traits`.
    """

    stream_type: bytes
    whole_type: bytes
    probe_path: str

    def remote_images(self, body: Body) -> list[ImageUrl]:
        """Return the images that have to be fetched before `encode`."""

    def encode(self, call: Call, body: Body, fetched: Mapping[str, tuple[str, bytes]]) -> Outgoing:
        """Return the request.

        Raises:
            ProviderError: UNSUPPORTED or REJECTED, with `param`.
        """

    def read(self, call: Call, body: Body, answer: bytes) -> Batch:
        """Return the only batch of a whole answer.

        Raises:
            ProviderError: It makes no sense, or is an error.
        """

    def translator(self, call: Call, body: Body) -> Translator:
        """Return what reads a streamed answer."""

    def refusal(self, head: ResponseHead, answer: bytes, *, now_unix_s: float) -> ProviderError:
        """Return what an answer that is not 200 means."""


class Signer(Protocol):
    """Who we are at an upstream."""

    async def headers(
        self,
        target: Target,
        outgoing: Outgoing,
        *,
        is_streaming: bool,
        deadline_s: float,
        credential: SecretStr | None = None,
    ) -> bytes:
        """Return the headers of one POST, from `build_headers`.

        `credential` is a caller's own key and stands in place of ours, of which nothing is shown.

        Raises:
            ProviderError: CREDENTIALS or TIMEOUT: there are none that could be used; UNSUPPORTED:
                no `credential` can be shown here.
        """

    def probe_headers(self, target: Target) -> bytes:
        """Return the headers of a probe."""


class Translated:
    """One upstream with a wire format of its own."""

    def __init__(
        self,
        codec: Codec,
        signer: Signer,
        *,
        base_url: str,
        pool: HttpPool,
        fetcher: ImageFetcher,
        clock: Clock,
    ) -> None:
        self._codec = codec
        self.traits = traits_of(codec)
        self._signer = signer
        self._base_url = base_url
        self._pool = pool
        self._fetcher = fetcher
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._targets: dict[str, Target] = {}
        self._probe = Target.of(base_url, codec.probe_path)

    async def stream(
        self, call: Call, body: Body, *, deadline_s: float
    ) -> AsyncGenerator[Batch, None]:
        """Return the answer's batches; see `services.router.providers.port.Provider`."""
        exchange: HttpExchange | None = None
        try:
            outgoing = self._codec.encode(call, body, await self._fetched(body, deadline_s))
            ignored = outgoing.ignored
            exchange = await self._send(call, outgoing, deadline_s)
            await self._check(call, exchange, deadline_s)
            if not call.is_streaming:
                answer = await exchange.read_all(deadline_s, self._pool.limits.body_bytes_max)
                yield _telling(self._codec.read(call, body, answer), ignored)
                return
            translator, read = self._codec.translator(call, body), exchange.reader()
            now_s, idle_s = self._loop.time, call.idle_s
            while not translator.is_done:
                wait_s = now_s() + idle_s if translator.has_content else deadline_s
                try:
                    data = await read(wait_s)
                except (UpstreamClosedError, UpstreamTimeoutError):
                    # The answer has ended: only its usage or the last event got lost.
                    if not translator.is_finished:
                        raise
                    data = b""
                batch = translator.feed(data) if data else translator.end()
                if translator.is_done:
                    exchange.finish()
                if batch is not None:
                    if ignored and (batch.content_event_count or translator.is_done):
                        # What comes before the first content may be held back and joined.
                        batch, ignored = _telling(batch, ignored), ()
                    yield batch
        except UpstreamError as error:
            raise failure_of(error, is_late=self._loop.time() >= deadline_s) from error
        finally:
            if exchange is not None:
                exchange.close()

    async def probe(self) -> bool:
        """Return whether a free request gets any answer below 500, a refusal included."""
        deadline_s = self._loop.time() + PROBE_S
        try:
            headers = self._signer.probe_headers(self._probe)
            exchange = await self._pool.request(
                "GET", self._probe, headers=headers, connect_s=PROBE_S
            )
            try:
                head = await exchange.head(deadline_s)
            finally:
                exchange.close()
        except UpstreamError:
            return False
        return head.status < 500

    def refused(self, error: ProviderError) -> None:
        """Learn what the upstream refused with; who has credentials that end may drop them."""

    async def _fetched(self, body: Body, deadline_s: float) -> Mapping[str, tuple[str, bytes]]:
        images = self._codec.remote_images(body)
        if not images:
            return {}
        found = await self._fetcher.fetch(images, deadline_s=deadline_s)
        return {
            image.where: (image_kind(data), data) for image, data in zip(images, found, strict=True)
        }

    async def _check(self, call: Call, exchange: HttpExchange, deadline_s: float) -> None:
        """Wait for an answer's head, and refuse what is not a good one."""
        head = await exchange.head(deadline_s)
        if head.status != 200:
            answer = await error_body(exchange, deadline_s)
            error = self._codec.refusal(head, answer, now_unix_s=self._clock.unix_ms() / 1000)
            if call.credential is None:
                self.refused(error)
            raise error
        wanted = self._codec.stream_type if call.is_streaming else self._codec.whole_type
        if call.is_streaming and head.media_type == self._codec.whole_type != wanted:
            # Where a stream was asked for it may be an error that says why.
            answer = await error_body(exchange, deadline_s)
            raise self._codec.refusal(head, answer, now_unix_s=self._clock.unix_ms() / 1000)
        if head.media_type not in (b"", wanted):
            raise invalid("The upstream's answer is not of the type that was asked for.")

    async def _send(self, call: Call, outgoing: Outgoing, deadline_s: float) -> HttpExchange:
        target = self._targets.get(outgoing.path)
        if target is None:
            if len(self._targets) >= TARGETS_MAX:
                self._targets.clear()
            target = Target.of(self._base_url, outgoing.path)
            self._targets[outgoing.path] = target
        headers = await self._signer.headers(
            target,
            outgoing,
            is_streaming=call.is_streaming,
            deadline_s=deadline_s,
            credential=call.credential,
        )
        return await self._pool.request(
            "POST",
            target,
            headers=headers,
            body=outgoing.body,
            connect_s=min(self._pool.limits.connect_s, deadline_s - self._loop.time()),
        )


def _telling(batch: Batch, ignored: tuple[str, ...]) -> Batch:
    """Return a batch that names the request fields which were left aside."""
    if ignored:
        batch.route.ignored_parameters.extend(ignored)
    return batch
