"""Tracing: who decides, what a span carries, and that an end never hangs."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from kit.tracing import Attribute, Sampled, Tracing, open_tracing, parse_traceparent

TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN: Final = "00f067aa0ba902b7"
YES: Final = f"00-{TRACE}-{SPAN}-01"
NO: Final = f"00-{TRACE}-{SPAN}-00"
PROMPT: Final = "tell me about the red heron"
INVALID: Final = (
    "",
    "x",
    YES.upper(),
    YES + "-00",
    YES + " ",
    "\n" + YES,
    YES + "\n",
    YES.replace("-01", "-1"),
    YES.replace("00-", "ff-", 1),
    YES.replace(TRACE, "0" * 32),
    YES.replace(SPAN, "0" * 16),
    YES.replace("4bf9", "4bg9"),
    YES.replace("4bf9", "٤bf9"),
    f"01-{TRACE}-{SPAN}-01extra",
    f"01-{TRACE}-{SPAN}-01-" + "a" * 1_000,
)


@dataclass(frozen=True)
class Settings:
    otlp_endpoint: str = ""
    sample_ratio: float = 0.0


@asynccontextmanager
async def opened(
    exporter: SpanExporter, *, ratio: float = 0.0, shutdown_s: float = 10.0
) -> AsyncIterator[Tracing]:
    settings = Settings(sample_ratio=ratio)
    async with open_tracing(
        settings, service_name="turnpike-test", shutdown_s=shutdown_s, exporter=exporter
    ) as tracing:
        yield tracing


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def must(sampled: Sampled | None) -> Sampled:
    assert sampled is not None
    return sampled


async def test_without_an_endpoint_nothing_is_traced() -> None:
    async with open_tracing(Settings(sample_ratio=1.0), service_name="x") as tracing:
        decided = [tracing.sampled(YES), tracing.sampled(""), tracing.continued(YES)]

    assert not tracing.is_on
    assert [None] * 3 == decided


@pytest.mark.parametrize("text", INVALID)
def test_invalid_traceparent_is_no_parent(text: str) -> None:
    assert parse_traceparent(text) is None


@pytest.mark.parametrize(
    ("text", "is_sampled"),
    [(YES, True), (NO, False), (f"00-{TRACE}-{SPAN}-ff", True), (f"cc-{TRACE}-{SPAN}-01-x", True)],
)
def test_valid_traceparent_names_trace_span_and_decision(text: str, is_sampled: bool) -> None:
    parent = parse_traceparent(text)

    assert parent is not None
    assert (int(TRACE, 16), int(SPAN, 16)) == (parent.trace_id, parent.span_id)
    assert is_sampled == parent.is_sampled


@given(st.text(max_size=80) | st.from_regex(r"[0-9a-f-]{50,60}"))
def test_no_text_breaks_the_parser(text: str) -> None:
    parent = parse_traceparent(text)

    assert parent is None or (parent.trace_id > 0 and parent.span_id > 0)


async def test_parent_decides_whatever_the_ratio() -> None:
    async with opened(InMemorySpanExporter(), ratio=1.0) as always:
        refused = always.sampled(NO)
        continued = always.continued(NO)
    async with opened(InMemorySpanExporter(), ratio=0.0) as never:
        taken = never.sampled(YES)

    assert (None, None) == (refused, continued)
    assert YES == must(taken).traceparent


@pytest.mark.parametrize("text", INVALID)
async def test_without_a_valid_parent_the_ratio_decides(text: str) -> None:
    async with opened(InMemorySpanExporter(), ratio=1.0) as always:
        taken = always.sampled(text)
        behind = always.continued(text)
    async with opened(InMemorySpanExporter(), ratio=0.0) as never:
        refused = never.sampled(text)

    assert taken is not None
    assert (None, None) == (behind, refused)


async def test_ratio_is_the_part_that_is_traced() -> None:
    draws = iter([0.0, 0.249, 0.25, 0.9])
    async with opened(InMemorySpanExporter()) as on:
        tracer = must(on.sampled(YES)).tracer
        tracing = Tracing(tracer, sample_ratio=0.25, draw=lambda: next(draws))

        decided = [tracing.sampled("") is not None for _ in range(4)]

    assert [True, True, False, False] == decided


async def test_spans_of_two_hops_hang_on_the_callers_span() -> None:
    exporter = InMemorySpanExporter()
    async with opened(exporter) as tracing:
        with tracing.span("gateway.chat", must(tracing.sampled(YES))) as outer:
            behind = must(tracing.continued(outer.traceparent))
            with tracing.span("router.dispatch", behind), tracing.span("x", outer.sampled):
                pass

    spans = by_name(exporter)
    gateway, router = spans["gateway.chat"], spans["router.dispatch"]
    assert gateway.context is not None
    assert gateway.parent is not None
    assert router.parent is not None
    assert (int(TRACE, 16), int(SPAN, 16)) == (gateway.context.trace_id, gateway.parent.span_id)
    assert gateway.context.span_id == router.parent.span_id
    assert "turnpike-test" == gateway.resource.attributes["service.name"]


async def test_span_without_a_parent_starts_a_trace() -> None:
    exporter = InMemorySpanExporter()
    async with opened(exporter, ratio=1.0) as tracing:
        with tracing.span("gateway.chat", must(tracing.sampled(""))) as span:
            found = parse_traceparent(span.traceparent)

    (made,) = exporter.get_finished_spans()
    assert made.parent is None
    assert made.context is not None
    assert found is not None
    assert (found.trace_id, found.span_id) == (made.context.trace_id, made.context.span_id)


async def test_span_carries_only_attributes_of_the_table() -> None:
    exporter = InMemorySpanExporter()
    async with opened(exporter) as tracing:
        attributes = {Attribute.REQUEST_MODEL: "tiny" * 1_000, "prompt": PROMPT}
        with tracing.span("a", must(tracing.sampled(YES)), attributes) as span:  # type: ignore[arg-type]
            span.set({Attribute.INPUT_TOKENS: 7, Attribute.RESPONSE_FINISH_REASONS: ("stop",)})
            span.set({"gen_ai.prompt": PROMPT})  # type: ignore[dict-item]

    (made,) = exporter.get_finished_spans()
    assert made.attributes is not None
    assert [
        "gen_ai.request.model",
        "gen_ai.response.finish_reasons",
        "gen_ai.usage.input_tokens",
    ] == (sorted(made.attributes))
    assert PROMPT not in made.to_json()
    assert 256 == len(str(made.attributes["gen_ai.request.model"]))


def test_table_names_no_content() -> None:
    words = ("prompt", "message", "content", "completion", "instruction", "key", "user")

    assert [] == [name for name in Attribute for word in words if word in name.value]


async def test_exception_leaves_only_its_class_behind() -> None:
    exporter = InMemorySpanExporter()
    async with opened(exporter) as tracing:
        with (
            pytest.raises(ValueError, match="heron"),
            tracing.span("a", must(tracing.sampled(YES))),
        ):
            raise ValueError(PROMPT)

    (made,) = exporter.get_finished_spans()
    assert {"error.type": "ValueError"} == made.attributes
    assert "ERROR" == made.status.status_code.name
    assert ((), False) == (made.events, PROMPT in made.to_json())


async def test_generator_that_is_closed_early_has_not_failed() -> None:
    exporter = InMemorySpanExporter()

    def batches(tracing: Tracing) -> Generator[int]:
        with tracing.span("a", must(tracing.sampled(YES)), kind="client"):
            yield 1
            yield 2

    async with opened(exporter) as tracing:
        running = batches(tracing)
        next(running)
        running.close()

    (made,) = exporter.get_finished_spans()
    assert ("UNSET", "CLIENT") == (made.status.status_code.name, made.kind.name)
    assert {} == made.attributes


class StuckExporter(SpanExporter):
    """An exporter whose collector does not answer until it is told to."""

    def __init__(self) -> None:
        self.answer = threading.Event()
        self.is_asked = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.is_asked.set()
        self.answer.wait(30.0)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.answer.wait(30.0)


async def eventually(predicate: Callable[[], bool], *, wait_s: float = 10.0) -> None:
    async with asyncio.timeout(wait_s):
        while not predicate():
            await asyncio.sleep(0.005)


async def test_end_does_not_wait_for_a_collector_that_is_stuck() -> None:
    exporter = StuckExporter()
    async with opened(exporter, shutdown_s=0.05) as tracing:
        with tracing.span("a", must(tracing.sampled(YES))):
            pass

    was_answered = exporter.answer.is_set()
    exporter.answer.set()

    assert not was_answered
    await eventually(
        lambda: not any(each.name == "tracing-shutdown" for each in threading.enumerate())
    )


async def test_endpoint_turns_tracing_on() -> None:
    settings = Settings(otlp_endpoint="http://127.0.0.1:9", sample_ratio=1.0)

    async with open_tracing(settings, service_name="x", shutdown_s=0.05) as tracing:
        decided = tracing.sampled("")

    assert decided is not None
