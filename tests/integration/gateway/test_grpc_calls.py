"""gRPC calls from first message to end: deadlines, revocation, slow clients, the stop."""

import asyncio
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gateway.openai.schema import encode
from kit.errors import Reason
from kit.rpc.local import LocalMode
from tests.fixtures.catalogues import SMALL, chat, price_nusd
from tests.fixtures.gateway import Key, OpenSite, Site, Wish, until
from tests.fixtures.grpc_caller import SERVED, Told, caller_of, shown, told_by, typed
from tests.integration.gateway.wire import UUID7, stalled, tokens
from turnpike.router.v1 import router_pb2

LONG = chat("fake=chunks:3000;delay_ms:5;usage:every", stream=True, max_tokens=3000)
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(params=[LocalMode.VERIFY, "split"])
async def site(open_site: OpenSite, request: pytest.FixtureRequest) -> Site:
    """A site that serves gRPC: where messages are compared, and with a socket to the rooms."""
    if request.param == "split":
        return await open_site(Wish(is_split=True, gateway=SERVED))
    return await open_site(Wish(mode=request.param, gateway=SERVED))


def asked(body: dict[str, Any], **envelope: Any) -> router_pb2.RunRequest:
    wanted = router_pb2.Envelope(**envelope) if envelope else None
    return router_pb2.RunRequest(body=encode(body), envelope=wanted)


async def ask(site: Site, key: Key, request: router_pb2.RunRequest, **metadata: str) -> Told:
    async with caller_of(site) as router:
        return await told_by(router.Run(request, metadata=shown(key, **metadata), timeout=20))


async def test_answer_shows_what_http_shows_and_no_more(site: Site) -> None:
    key = await site.key()

    told = await ask(site, key, asked(chat(stream=True)), x_request_id="mine-7")

    (record,) = await site.settled(key, 1)
    routes = [message.route for message in told.messages if message.HasField("route")]
    assert [record.request_id] == [route.request_id for route in routes]
    assert "" == routes[0].deployment
    assert record.request_id == told.initial["x-request-id"]
    assert "mine-7" == told.initial["x-client-request-id"]
    assert "0.0000114" == told.trailing["x-turnpike-cost"]
    last = told.messages[-1].finish
    assert ("stop", record.charge_nusd) == (last.finish_reason, last.charge_nusd)
    assert record.usage == last.usage
    assert [] == list(last.finish_chunks)
    assert (b"", b"") == (last.chunk_head, last.usage_json)


async def test_typed_answer_prints_without_a_parser(site: Site) -> None:
    key = await site.key()
    request = router_pb2.RunRequest(chat=typed(chat("fake=choices:2", n=2, stream=True)))

    told = await ask(site, key, request)

    texts = ["".join(d.text for d in told.deltas if d.choice == choice) for choice in (0, 1)]
    ends = [(d.choice, d.finish_reason) for d in told.deltas if d.finish_reason]
    assert [tokens(16), tokens(16)] == texts
    assert [(0, "stop"), (1, "stop")] == ends


async def test_access_line_and_metrics_tell_calls_apart_by_their_method(site: Site) -> None:
    key = await site.key()

    await ask(site, key, asked(chat()))
    await ask(site, key, asked(chat(temperature=3)))

    route = "grpc turnpike.router.v1.RouterService/Run"
    lines = [(line["route"], line["status"], line.get("error")) for line in site.logged()]
    assert [(route, 200, None), (route, 400, "INVALID_VALUE")] == lines
    counted = f'turnpike_gateway_requests_total{{model="{SMALL}",route="{route}",status="200"}} 1.0'
    assert counted in site.metrics()


async def test_deadline_of_the_call_is_its_timeout(site: Site) -> None:
    key = await site.key()

    async with caller_of(site) as router:
        request = asked(chat("fake=hang:headers_before", timeout_ms=20_000))
        told = await told_by(router.Run(request, metadata=shown(key), timeout=0.5))

    (record,) = await site.settled(key, 1)
    assert grpc.StatusCode.DEADLINE_EXCEEDED is told.code
    assert 0 == record.charge_nusd
    await until(lambda: site.main.seen[0].is_over)
    await until(lambda: site.gateway.deps.running.count == 0)


async def test_timeout_of_the_body_counts_where_it_is_shorter(site: Site) -> None:
    key = await site.key()

    told = await ask(site, key, asked(chat("fake=hang:headers_before"), timeout_ms=300))

    assert (grpc.StatusCode.DEADLINE_EXCEEDED, Reason.TIMEOUT) == (told.code, told.reason)


async def test_deadline_in_mid_stream_ends_the_upstream_and_charges_what_came(site: Site) -> None:
    key = await site.key()

    async with caller_of(site) as router:
        told = await told_by(router.Run(asked(LONG), metadata=shown(key), timeout=1.0))

    (record,) = await site.settled(key, 1)
    assert grpc.StatusCode.DEADLINE_EXCEEDED is told.code
    assert "client_closed" == record.outcome
    assert price_nusd(12, record.usage.completion_token_count) == record.charge_nusd > 0
    await until(lambda: site.main.seen[0].is_aborted)


async def test_client_that_vanishes_ends_its_upstream(site: Site) -> None:
    key = await site.key()

    async with caller_of(site) as router:
        call = router.Run(asked(LONG), metadata=shown(key))
        assert isinstance(await call.read(), router_pb2.RunResponse)

    await until(lambda: site.main.seen[0].is_aborted)
    (record,) = await site.settled(key, 1)
    assert "client_closed" == record.outcome
    assert price_nusd(12, record.usage.completion_token_count) == record.charge_nusd


async def test_calls_that_are_cancelled_at_any_moment_leave_nothing_behind(site: Site) -> None:
    key = await site.key(requests_per_minute=0, tokens_per_minute=0)

    async def cancel_after(router: Any, turns: int) -> None:
        call = router.Run(asked(chat("shape=c20-d1", stream=True)), metadata=shown(key))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()

    async with caller_of(site) as router:
        for turns in range(60):
            await cancel_after(router, turns)
        await until(lambda: site.gateway.deps.running.count == 0)
        last = await told_by(router.Run(asked(chat()), metadata=shown(key)))
    await until(lambda: all(seen.is_over for seen in site.main.seen))

    records = await site.settled(key, len(site.main.seen))
    assert grpc.StatusCode.OK is last.code
    assert {"completed", "client_closed"} >= {record.outcome for record in records}
    assert {499, 200} >= {line["status"] for line in site.logged()}
    assert 0 == (await site.balance(key)).debt_nusd


@pytest.mark.parametrize("is_under_way", [False, True])
async def test_revoked_key_ends_its_calls(site: Site, is_under_way: bool) -> None:
    key = await site.key()
    request = asked(LONG if is_under_way else chat("fake=hang:headers_before"))

    async with caller_of(site) as router, asyncio.TaskGroup() as tasks:
        call = router.Run(request, metadata=shown(key))
        if is_under_way:
            assert isinstance(await call.read(), router_pb2.RunResponse)
        rest = tasks.create_task(read_on(call))
        await until(lambda: len(site.main.seen) == 1)
        await site.revoke(key)
        error = await rest

    (record,) = await site.settled(key, 1)
    await until(lambda: site.main.seen[0].is_over)
    assert grpc.StatusCode.UNAUTHENTICATED is error.code()
    assert "The API key was revoked." == error.details()
    assert "client_closed" == record.outcome
    assert is_under_way == bool(record.charge_nusd)


async def read_on(call: Any) -> aio.AioRpcError:
    try:
        while await call.read() is not aio.EOF:
            pass
    except aio.AioRpcError as error:
        return error
    raise AssertionError("It ended well.")


@pytest.mark.parametrize("is_typed", [False, True])
async def test_answer_that_breaks_says_so_twice(site: Site, is_typed: bool) -> None:
    key = await site.key()
    body = chat("fake=chunks:8;cut_after:4;usage:every;delay_ms:20", stream=True)
    request = router_pb2.RunRequest(chat=typed(body)) if is_typed else asked(body)

    told = await ask(site, key, request)

    (record,) = await site.settled(key, 1)
    broken = told.messages[-1].error
    assert "UPSTREAM_INCOMPLETE" == broken.reason == told.reason
    assert broken.message == told.text
    assert record.charge_nusd == broken.charge_nusd > 0
    assert is_typed == (b"upstream_incomplete" not in told.sse)


async def test_client_that_does_not_read_slows_its_upstream_and_is_cut(open_site: OpenSite) -> None:
    site = await open_site(Wish(gateway={**SERVED, "write_timeout_s": 2.0}))
    key = await site.key()
    body = chat("fake=chunks:3000;event_bytes:16000;usage:every", stream=True, max_tokens=3000)

    async with caller_of(site) as router:
        call = router.Run(asked(body), metadata=shown(key))
        assert isinstance(await call.read(), router_pb2.RunResponse)
        sent = await stalled(site.main)
        await until(lambda: site.main.seen[0].is_over)
        await until(lambda: site.gateway.deps.running.count == 0)
        error = await read_on(call)

    (record,) = await site.settled(key, 1)
    assert sent < 3000 * 16000
    assert grpc.StatusCode.CANCELLED is error.code()
    assert "client_closed" == record.outcome
    assert [499] == [line["status"] for line in site.logged()]


async def test_stop_lets_calls_end_and_refuses_new_ones(site: Site) -> None:
    key = await site.key()
    body = chat("fake=chunks:40;delay_ms:25", stream=True)

    async with caller_of(site) as router, asyncio.TaskGroup() as tasks:
        call = router.Run(asked(body), metadata=shown(key))
        first = await call.read()
        left = tasks.create_task(site.leave())
        await until(lambda: site.gateway.deps.readiness.is_stopping)
        late = await told_by(router.Run(asked(chat()), metadata=shown(key)))
        messages: list[Any] = [first]
        while (message := await call.read()) is not aio.EOF:
            messages.append(message)
        await left

    assert (grpc.StatusCode.UNAVAILABLE, "1") == (late.code, late.info["retry_after_s"])
    assert "stop" == messages[-1].finish.finish_reason
    assert ["completed"] == [record.outcome for record in await site.settled(key, 1)]


async def test_health_and_reflection_are_open_and_tell_of_the_service(site: Site) -> None:
    wish = reflection_pb2.ServerReflectionRequest(list_services="")
    name = health_pb2.HealthCheckRequest(service="turnpike.router.v1.RouterService")

    async with aio.insecure_channel(f"127.0.0.1:{site.gateway.grpc_port}") as channel:
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        (answer,) = [a async for a in reflection.ServerReflectionInfo(iter([wish]))]
        serving = await health_pb2_grpc.HealthStub(channel).Check(name)

    names = {service.name for service in answer.list_services_response.service}
    assert "turnpike.router.v1.RouterService" in names
    assert not [name for name in names if ".auth." in name or ".payment." in name]
    assert health_pb2.HealthCheckResponse.SERVING == serving.status


async def test_models_come_in_pages_without_their_places(site: Site) -> None:
    key = await site.key()
    found: list[router_pb2.Model] = []
    token = ""

    async with caller_of(site) as router:
        for _ in range(3):
            page = router_pb2.ListModelsRequest(page_size=1, page_token=token)
            answer = await router.ListModels(page, metadata=shown(key))
            found += answer.models
            token = answer.next_page_token
        wrong = router_pb2.ListModelsRequest(page_size=-1)
        with pytest.raises(aio.AioRpcError) as caught:
            await router.ListModels(wrong, metadata=shown(key))

    every = [known.message for known in site.gateway.deps.models._models]
    assert [model.model_id for model in every] == [model.model_id for model in found]
    assert "" == token
    assert [] == [model for model in found if model.places]
    assert every[0].ceiling_price == found[0].ceiling_price
    assert grpc.StatusCode.INVALID_ARGUMENT is caught.value.code()


async def test_two_different_credentials_are_refused(site: Site) -> None:
    one, two = await site.key(), await site.key()

    both = await ask(site, one, asked(chat()), x_api_key=two.secret)
    same = await ask(site, one, asked(chat()), x_api_key=one.secret)

    assert (Reason.BAD_REQUEST, None) == (both.reason, same.reason)


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_request_that_is_too_long_is_refused_before_it_is_read(
    open_site: OpenSite, compression: grpc.Compression
) -> None:
    site = await open_site(Wish(gateway={**SERVED, "body_bytes_max": 4096}))
    key = await site.key()

    async with caller_of(site) as router:
        found = {
            size: await told_by(
                router.Run(asked(chat("x" * size)), metadata=shown(key), compression=compression)
            )
            for size in (3000, 5000, 1_000_000)
        }

    assert grpc.StatusCode.OK is found[3000].code
    assert Reason.PAYLOAD_TOO_LARGE is found[5000].reason
    assert grpc.StatusCode.RESOURCE_EXHAUSTED is found[1_000_000].code
    assert 2 == len(site.logged())


async def test_ids_are_uuids_for_refusals_as_well(site: Site) -> None:
    told = await ask(site, Key("", "", "sk-tp-none"), asked(chat()))

    assert UUID7.fullmatch(told.info["request_id"])
    assert [told.info["request_id"]] == [line["request_id"] for line in site.logged()]
