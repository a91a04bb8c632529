"""Traces by OpenTelemetry, for the part of the requests that is sampled; nothing for the rest.

Whether a request is traced is decided before anything is built for it. Spans carry only the
attributes of one table, so that no prompt, completion or key can get into them.
"""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING, Final, Literal, Protocol

import structlog

from kit.errors import TurnpikeError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

EXPORT_S: Final = 5.0
SHUTDOWN_S: Final = 5.0
SPANS_MAX: Final = 2_048
TEXT_LENGTH_MAX: Final = 256
# Source: W3C Trace Context, section 3.2 "traceparent header", read 2026-11.
_TRACEPARENT: Final = re.compile(
    r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII
)
_TRACEPARENT_LENGTH_MAX: Final = 512
_SAMPLED: Final = 1
_log = structlog.get_logger("kit.tracing")

Value = str | bool | int | float


class Attribute(StrEnum):
    """Every attribute that a span may carry; values are the names that are exported.

    Source: OpenTelemetry semantic conventions for GenAI, state of 2026.
    """

    OPERATION = "gen_ai.operation.name"
    PROVIDER = "gen_ai.provider.name"
    REQUEST_MODEL = "gen_ai.request.model"
    REQUEST_TOKENS_MAX = "gen_ai.request.max_tokens"
    REQUEST_IS_STREAMING = "gen_ai.request.stream"
    REQUEST_CHOICE_COUNT = "gen_ai.request.choice.count"
    RESPONSE_ID = "gen_ai.response.id"
    RESPONSE_MODEL = "gen_ai.response.model"
    RESPONSE_FINISH_REASONS = "gen_ai.response.finish_reasons"
    RESPONSE_FIRST_CHUNK_S = "gen_ai.response.time_to_first_chunk"
    INPUT_TOKENS = "gen_ai.usage.input_tokens"
    OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
    CACHED_INPUT_TOKENS = "gen_ai.usage.cache_read.input_tokens"
    REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
    ERROR_TYPE = "error.type"
    SERVER_ADDRESS = "server.address"
    SERVER_PORT = "server.port"
    HTTP_ROUTE = "http.route"
    HTTP_STATUS = "http.response.status_code"
    REQUEST_ID = "turnpike.request.id"
    DEPLOYMENT = "turnpike.deployment"
    ATTEMPT = "turnpike.attempt"
    CHARGE_NUSD = "turnpike.charge_nusd"


Attributes = Mapping[Attribute, Value | tuple[str, ...]]


class TracingSettings(Protocol):
    """What tracing has to be told."""

    @property
    def otlp_endpoint(self) -> str:
        """OTLP gRPC endpoint; empty turns tracing off. `https://` means TLS."""

    @property
    def sample_ratio(self) -> float:
        """Part of the requests without a parent that are traced, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """A request that is traced; `traceparent` names the span above, empty when there is none."""

    tracer: "Tracer"
    context: "Context"
    traceparent: str = ""


class OpenSpan:
    """A span that is running."""

    __slots__ = ("_is_failed", "_span", "sampled")

    def __init__(self, span: "Span", sampled: Sampled) -> None:
        self._span = span
        self._is_failed = False
        self.sampled = sampled

    @property
    def traceparent(self) -> str:
        """What the next hop is sent, and continues."""
        return self.sampled.traceparent

    def set(self, attributes: Attributes) -> None:
        """Add attributes; names beyond the table are left out."""
        for name, value in attributes.items():
            if isinstance(name, Attribute):
                shown = value[:TEXT_LENGTH_MAX] if isinstance(value, str) else value
                self._span.set_attribute(name.value, shown)

    def fail(self, error_type: str) -> None:
        """Mark the span as failed; `error_type` is a reason or a class name, never a message.

        The first one stays.
        """
        from opentelemetry.trace import StatusCode  # noqa: PLC0415 - slow, only when tracing

        if self._is_failed:
            return
        self._is_failed = True
        self.set({Attribute.ERROR_TYPE: error_type})
        self._span.set_status(StatusCode.ERROR)


class Tracing:
    """Decides what is traced and makes spans. Without a tracer it is off."""

    def __init__(
        self,
        tracer: "Tracer | None" = None,
        *,
        sample_ratio: float = 0.0,
        draw: Callable[[], float] | None = None,
    ) -> None:
        self._tracer = tracer
        self._sample_ratio = sample_ratio
        self._draw = draw or Random().random  # noqa: S311 - nobody gains by guessing it

    @property
    def is_on(self) -> bool:
        """Whether anything can be traced at all."""
        return self._tracer is not None

    def sampled(self, traceparent: str) -> Sampled | None:
        """Return what a request's spans hang on, None when it is not traced.

        A valid `traceparent` decides by its sampled flag, else the ratio does.
        """
        tracer = self._tracer
        return None if tracer is None else self._decide(tracer, traceparent, self._sample_ratio)

    def continued(self, traceparent: str) -> Sampled | None:
        """Return the same for a hop behind the first one, which starts no trace of its own."""
        tracer = self._tracer
        if tracer is None or not traceparent:
            return None
        return self._decide(tracer, traceparent, 0.0)

    def _decide(self, tracer: "Tracer", traceparent: str, ratio: float) -> Sampled | None:
        parent = parse_traceparent(traceparent) if traceparent else None
        if parent is not None:
            is_sampled = parent.is_sampled
            return Sampled(tracer, _context_of(parent), traceparent) if is_sampled else None
        return Sampled(tracer, _no_context()) if self._draw() < ratio else None

    @contextmanager
    def span(
        self,
        name: str,
        sampled: Sampled,
        attributes: Attributes | None = None,
        *,
        kind: Literal["internal", "server", "client"] = "internal",
    ) -> Iterator[OpenSpan]:
        """Open a span below `sampled`; of an exception that passes only reason or class is noted.

        A generator that is closed before its end passes without a note: that is no failure.
        """
        from opentelemetry.trace import SpanKind  # noqa: PLC0415 - slow, only when tracing

        span = sampled.tracer.start_span(name, context=sampled.context, kind=SpanKind[kind.upper()])
        below = OpenSpan(span, _below(sampled.tracer, span))
        below.set(attributes or {})
        try:
            yield below
        except GeneratorExit:
            raise
        except TurnpikeError as error:
            below.fail(error.reason)
            raise
        except BaseException as error:
            below.fail(type(error).__name__)
            raise
        finally:
            span.end()


@dataclass(frozen=True, slots=True)
class Parent:
    """A span of somebody else, as a `traceparent` names it."""

    trace_id: int
    span_id: int
    is_sampled: bool


def parse_traceparent(text: str) -> Parent | None:
    """Return what a `traceparent` says, None when it is not valid.

    Versions after 00 may carry more fields, which are passed over; version ff and ids of zeros
    are invalid.
    """
    if len(text) > _TRACEPARENT_LENGTH_MAX:
        return None
    found = _TRACEPARENT.fullmatch(text)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None):
        return None
    parent = Parent(int(trace_id, 16), int(span_id, 16), bool(int(flags, 16) & _SAMPLED))
    return parent if parent.trace_id and parent.span_id else None


@asynccontextmanager
async def open_tracing(
    settings: TracingSettings,
    *,
    service_name: str,
    shutdown_s: float = SHUTDOWN_S,
    exporter: "SpanExporter | None" = None,
) -> AsyncIterator[Tracing]:
    """Open tracing; on exit what waits is sent, for at most `shutdown_s` seconds.

    `exporter` takes the place of the one for `otlp_endpoint`.
    """
    if not settings.otlp_endpoint and exporter is None:
        yield Tracing()
        return
    provider = _provider(exporter or _otlp(settings.otlp_endpoint), service_name)
    try:
        yield Tracing(provider.get_tracer("turnpike"), sample_ratio=settings.sample_ratio)
    finally:
        await _shut_down(provider, shutdown_s)


def _otlp(endpoint: str) -> "SpanExporter":
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415 - slow
        OTLPSpanExporter,
    )

    is_plain = not endpoint.startswith("https://")
    return OTLPSpanExporter(endpoint=endpoint, insecure=is_plain, timeout=EXPORT_S)


def _provider(exporter: "SpanExporter", service_name: str) -> "TracerProvider":
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - slow, only when tracing
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON  # noqa: PLC0415

    # Sampling was decided before a span is made, so that the library need not ask again.
    provider = TracerProvider(
        sampler=ALWAYS_ON,
        resource=Resource.create({"service.name": service_name}),
        shutdown_on_exit=False,
    )
    processor = BatchSpanProcessor(
        exporter, max_queue_size=SPANS_MAX, export_timeout_millis=EXPORT_S * 1000
    )
    provider.add_span_processor(processor)
    return provider


async def _shut_down(provider: "TracerProvider", shutdown_s: float) -> None:
    """Send what waits; a collector that does not answer keeps nobody from ending."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def work() -> None:
        provider.shutdown()
        with suppress(RuntimeError):  # the loop may have ended without waiting any longer
            loop.call_soon_threadsafe(done.set)

    # A daemon thread, because a pool's threads are waited for when the process ends.
    threading.Thread(target=work, name="tracing-shutdown", daemon=True).start()
    try:
        async with asyncio.timeout(shutdown_s):
            await done.wait()
    except TimeoutError:
        _log.warning("tracing_not_drained", waited_s=shutdown_s)


def _context_of(parent: Parent) -> "Context":
    from opentelemetry.context import Context  # noqa: PLC0415 - slow, only when tracing
    from opentelemetry.trace import (  # noqa: PLC0415
        NonRecordingSpan,
        SpanContext,
        TraceFlags,
        set_span_in_context,
    )

    above = SpanContext(
        parent.trace_id, parent.span_id, is_remote=True, trace_flags=TraceFlags(_SAMPLED)
    )
    return set_span_in_context(NonRecordingSpan(above), Context())


def _no_context() -> "Context":
    from opentelemetry.context import Context  # noqa: PLC0415 - slow, only when tracing

    return Context()


def _below(tracer: "Tracer", span: "Span") -> Sampled:
    from opentelemetry.context import Context  # noqa: PLC0415 - slow, only when tracing
    from opentelemetry.trace import set_span_in_context  # noqa: PLC0415

    own = span.get_span_context()
    traceparent = f"00-{own.trace_id:032x}-{own.span_id:016x}-01"
    return Sampled(tracer, set_span_in_context(span, Context()), traceparent)
