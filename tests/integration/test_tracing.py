"""Spans of all hops on their way to a real OTLP collector, and nothing in them that is secret."""

import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass

import pytest

from gateway.exchange import Exchange
from gateway.openai.dialect import DIALECTS
from gateway.traces import chat_span
from kit.errors import Reason, TurnpikeError
from kit.tracing import Tracing, open_tracing
from services.router.catalog import Deployment
from services.router.providers.port import Batch, Failure, ProviderError
from services.router.traces import Request, Trace, dispatched
from tests.fakes.otlp_collector import Collector, Span, open_collector
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2

PROMPT = "prompt-canary-4471"
ANSWER = "answer-canary-9052"
KEY = "key-canary-3318"
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SERVER, CLIENT = 2, 3
DOWN = ProviderError(Failure.UNAVAILABLE, f"The upstream said {ANSWER}.")


@dataclass(frozen=True)
class Settings:
    otlp_endpoint: str
    sample_ratio: float = 1.0


@dataclass
class Hops:
    """The tracing of two processes, which export to one collector."""

    gateway: Tracing
    router: Tracing


@asynccontextmanager
async def hops(collector: Collector) -> AsyncIterator[Hops]:
    """Open both; on exit everything was exported."""
    settings = Settings(collector.address)
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(open_tracing(settings, service_name=name))
            for name in ("gateway", "router")
        ]
        yield Hops(*opened)


def deployment(name: str) -> Deployment:
    return Deployment(
        name=name,
        deployment_id=f"id-{name}",
        provider=name,
        kind="scripted",
        backend="scripted",
        upstream_model="upstream",
        price=None,  # type: ignore[arg-type] # no span shows it
    )


def content() -> Batch:
    return Batch(
        sse=f"data: {ANSWER}\n\n".encode(),
        content_event_count=1,
        route=router_pb2.Route(
            request_id="request-1", deployment="b", upstream_model="upstream", attempt_count=2
        ),
    )


def finish() -> Batch:
    usage = usage_pb2.TokenUsage(prompt_token_count=7, completion_token_count=3)
    return Batch(
        completion=ANSWER.encode(),
        finish=router_pb2.Finish(usage=usage, finish_reason="stop", charge_nusd=41),
    )


async def play(steps: Sequence[Batch | ProviderError]) -> AsyncGenerator[Batch, None]:
    for step in steps:
        if isinstance(step, ProviderError):
            raise step
        yield step


async def drained(batches: AsyncGenerator[Batch, None]) -> list[Batch]:
    return [batch async for batch in batches]


async def two_attempts(_request: Request, trace: Trace) -> AsyncGenerator[Batch, None]:
    with pytest.raises(ProviderError):
        await drained(trace.attempt(deployment("a"), 1, play([DOWN])))
    async with aclosing(trace.attempt(deployment("b"), 2, play([content(), finish()]))) as batches:
        async for batch in batches:
            yield batch


async def refused(_request: Request, trace: Trace) -> AsyncGenerator[Batch, None]:
    try:
        async for batch in trace.attempt(deployment("a"), 1, play([DOWN])):
            yield batch
    except ProviderError as error:
        raise TurnpikeError(Reason.ALL_PROVIDERS_FAILED, error.message) from error


def request(traceparent: str) -> Request:
    envelope = router_pb2.Envelope(
        key_id=KEY, model_id="acme/small", is_streaming=True, traceparent=traceparent
    )
    return Request(envelope=envelope, body=f'{{"prompt":"{PROMPT}"}}'.encode())


def exchange() -> Exchange:
    made = Exchange(DIALECTS["openai"], 0.0)
    made.route, made.model_id = "POST /v1/chat/completions", "acme/small"
    made.is_streaming, made.key_id = True, KEY
    return made


async def run(both: Hops, traceparent: str) -> None:
    """Send a request through both hops as they do it; the reader leaves after the last batch."""
    above = both.gateway.sampled(traceparent)
    assert above is not None
    served = exchange()
    with chat_span(both.gateway, above, served) as span:
        behind = both.router.continued(span.traceparent)
        assert behind is not None
        answer = dispatched(both.router, behind, request(span.traceparent), two_attempts)
        async with aclosing(answer) as batches:
            async for batch in batches:
                if batch.HasField("finish"):
                    served.report.usage = batch.finish.usage
                    served.report.charge_nusd = batch.finish.charge_nusd
                    break


async def refuse(both: Hops) -> None:
    """Send a request through the router that no provider answers."""
    behind = both.router.continued(PARENT)
    assert behind is not None
    with pytest.raises(TurnpikeError):
        await drained(dispatched(both.router, behind, request(PARENT), refused))


def one(spans: list[Span]) -> Span:
    (span,) = spans
    return span


async def test_spans_of_all_hops_hang_below_one_another() -> None:
    async with open_collector() as collector, hops(collector) as both:
        await run(both, PARENT)

    gateway = one(collector.named("gateway.chat"))
    dispatch = one(collector.named("router.dispatch"))
    first, second = sorted(
        collector.named("provider.attempt"), key=lambda span: str(span.attributes)
    )
    _, trace_id, span_id, _ = PARENT.split("-")
    assert {trace_id} == {span.trace_id for span in collector.spans}
    assert [span_id, gateway.span_id, dispatch.span_id, dispatch.span_id] == [
        span.parent_id for span in (gateway, dispatch, first, second)
    ]
    assert ["gateway", "router", "router"] == [span.service for span in (gateway, dispatch, first)]
    assert [SERVER, SERVER, CLIENT] == [span.kind for span in (gateway, dispatch, first)]


async def test_spans_say_what_became_of_a_request() -> None:
    async with open_collector() as collector, hops(collector) as both:
        await run(both, "")

    dispatch = one(collector.named("router.dispatch"))
    attempted = collector.named("provider.attempt")
    attempts = {span.attributes["turnpike.attempt"]: span for span in attempted}
    assert {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "acme/small",
        "gen_ai.request.stream": True,
        "http.route": "POST /v1/chat/completions",
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
        "turnpike.charge_nusd": 41,
    } == one(collector.named("gateway.chat")).attributes
    assert ("request-1", "b", ["stop"]) == (
        dispatch.attributes["turnpike.request.id"],
        dispatch.attributes["turnpike.deployment"],
        dispatch.attributes["gen_ai.response.finish_reasons"],
    )
    assert (True, "unavailable") == (attempts[1].is_error, attempts[1].attributes["error.type"])
    assert [False, False] == [attempts[2].is_error, dispatch.is_error]


async def test_no_prompt_answer_or_key_leaves_with_a_span() -> None:
    async with open_collector() as collector, hops(collector) as both:
        await run(both, PARENT)
        await refuse(both)

    assert 6 == len(collector.spans)
    assert [] == [word for word in (PROMPT, ANSWER, KEY) if word.encode() in collector.raw]


async def test_refusal_leaves_its_reason_in_the_span() -> None:
    async with open_collector() as collector, hops(collector) as both:
        await refuse(both)

    dispatch = one(collector.named("router.dispatch"))
    assert (True, "ALL_PROVIDERS_FAILED") == (
        dispatch.is_error,
        dispatch.attributes["error.type"],
    )


async def test_collector_that_is_away_costs_no_request_and_no_hanging_end() -> None:
    settings = Settings("http://127.0.0.1:1")

    async with open_tracing(settings, service_name="gateway", shutdown_s=0.05) as tracing:
        above = tracing.sampled(PARENT)
        assert above is not None
        with chat_span(tracing, above, exchange()) as span:
            found = span.traceparent

    assert found.startswith(PARENT[:36])


def test_process_without_an_endpoint_never_imports_opentelemetry() -> None:
    script = """
import asyncio, sys
import app.modules, app.lifecycle
from app.settings_sections import TelemetrySettings
from kit.tracing import open_tracing

async def main():
    async with open_tracing(TelemetrySettings(), service_name="x") as tracing:
        assert tracing.sampled("00-" + "1" * 32 + "-" + "2" * 16 + "-01") is None

asyncio.run(main())
print([name for name in sys.modules if name.split(".")[0] == "opentelemetry"])
"""

    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        check=True,
        timeout=50,
        env={"PYTHONPATH": ":".join(sys.path)},
    )

    assert b"[]\n" == done.stdout
