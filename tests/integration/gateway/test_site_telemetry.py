"""What a whole site tells about itself: spans of sampled requests, metrics of every room."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from gateway.openai.schema import encode
from kit.telemetry import Telemetry
from kit.tracing import open_tracing
from tests.fakes.otlp_collector import Collector, open_collector
from tests.fixtures.catalogues import TWICE, chat
from tests.fixtures.gateway import UPSTREAM_KEY, OpenSite, Wish
from tests.fixtures.grpc_caller import SERVED, caller_of, shown, told_by
from turnpike.router.v1 import router_pb2

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
PROMPT = "prompt-canary-4471"


@dataclass(frozen=True)
class Settings:
    otlp_endpoint: str
    sample_ratio: float


@asynccontextmanager
async def telemetry(collector: Collector, *, ratio: float) -> AsyncIterator[Telemetry]:
    """Open telemetry that exports to a collector; on exit everything was exported."""
    settings = Settings(collector.address, ratio)
    async with open_tracing(settings, service_name="site") as tracing:
        yield Telemetry(tracing=tracing)


async def test_sampled_request_is_seen_at_every_hop_without_its_secrets(
    open_site: OpenSite,
) -> None:
    async with open_collector() as collector, AsyncExitStack() as stack:
        wish = Wish(telemetry=await stack.enter_async_context(telemetry(collector, ratio=0.0)))
        site = await open_site(wish)
        key = await site.key()
        for is_streaming in (True, False):
            body = chat(PROMPT, model=TWICE, stream=is_streaming)
            async with site.post(key, body, traceparent=PARENT) as answer:
                assert 200 == answer.status
                await answer.read()
        await site.settled(key, 2)
        await stack.aclose()
        spans = {name: collector.named(name) for name in ("gateway.chat", "router.dispatch")}
        spans["provider.attempt"] = collector.named("provider.attempt")

    assert [2, 2, 2] == [len(found) for found in spans.values()]
    assert {TRACE} == {span.trace_id for span in collector.spans}
    assert [] == [span for span in collector.spans if span.is_error]
    gateway = {span.span_id: span for span in spans["gateway.chat"]}
    dispatch = {span.span_id: span for span in spans["router.dispatch"]}
    assert set(gateway) == {span.parent_id for span in dispatch.values()}
    assert set(dispatch) == {span.parent_id for span in spans["provider.attempt"]}
    for span in dispatch.values():
        above = gateway[span.parent_id]
        for name in ("turnpike.request.id", "turnpike.charge_nusd", "gen_ai.usage.input_tokens"):
            assert above.attributes[name] == span.attributes[name]
    secrets = (PROMPT, key.secret, key.key_id, UPSTREAM_KEY)
    assert [] == [word for word in secrets if word.encode() in collector.raw]


async def test_call_over_grpc_goes_on_with_its_callers_trace(open_site: OpenSite) -> None:
    request = router_pb2.RunRequest(body=encode(chat(PROMPT, stream=True)))
    async with open_collector() as collector, AsyncExitStack() as stack:
        opened = await stack.enter_async_context(telemetry(collector, ratio=0.0))
        site = await open_site(Wish(telemetry=opened, gateway=SERVED))
        key = await site.key()
        async with caller_of(site) as router:
            told = await told_by(router.Run(request, metadata=shown(key, traceparent=PARENT)))
        await site.settled(key, 1)
        await stack.aclose()

    (gateway,), (dispatch,) = collector.named("gateway.chat"), collector.named("router.dispatch")
    assert [] == [span for span in collector.spans if span.is_error]
    assert {TRACE} == {span.trace_id for span in collector.spans}
    assert gateway.span_id == dispatch.parent_id
    assert "grpc turnpike.router.v1.RouterService/Run" == gateway.attributes["http.route"]
    assert told.initial["x-request-id"] == gateway.attributes["turnpike.request.id"]
    secrets = (PROMPT, key.secret, key.key_id, UPSTREAM_KEY)
    assert [] == [word for word in secrets if word.encode() in collector.raw]


async def test_request_that_is_not_sampled_leaves_no_span(open_site: OpenSite) -> None:
    async with open_collector() as collector, AsyncExitStack() as stack:
        wish = Wish(telemetry=await stack.enter_async_context(telemetry(collector, ratio=0.0)))
        site = await open_site(wish)
        key = await site.key()
        for headers in ({}, {"traceparent": PARENT[:-1] + "0"}, {"traceparent": "nonsense"}):
            async with site.post(key, chat(PROMPT), **headers) as answer:
                assert 200 == answer.status
                await answer.read()
        await stack.aclose()

    assert [] == collector.spans


async def test_metrics_of_every_room_are_on_one_page(open_site: OpenSite) -> None:
    site = await open_site()
    key = await site.key()

    async with site.post(key, chat(PROMPT)) as answer:
        assert 200 == answer.status
        await answer.read()
    await site.settled(key, 1)

    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(site.metrics())
        for sample in family.samples
    }
    assert {
        ("turnpike_router_attempts_total", "small-main", "ok"): 1.0,
        ("turnpike_router_running_attempts", "small-main"): 0.0,
        ("turnpike_router_open_breakers", "small-main"): 0.0,
        ("turnpike_router_open_requests",): 0.0,
        ("turnpike_payment_writeoff_nusd_total",): 0.0,
        ("turnpike_payment_late_outcomes_total",): 0.0,
        ("turnpike_payment_dead_letters_total",): 0.0,
        ("turnpike_metering_dead_letters_total",): 0.0,
    }.items() <= samples.items()
    assert 0.0 <= samples[("turnpike_metering_silence_seconds",)] < 60.0
