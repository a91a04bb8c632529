"""Several servers of one model: a real Triton that is reached at two addresses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from services.router.providers.port import Batch, Failure, ProviderError
from services.router.providers.triton.adapter import TritonProvider, open_triton
from services.router.providers.triton.embedder import open_triton_embedder
from services.router.providers.triton.port import TritonAddress, TritonConfig
from services.router.providers.triton.servers import Rules
from services.router.providers.triton.vectors import EmbeddingTensors
from tests.fakes.relay import Relay, open_relay
from tests.fixtures.triton import Triton
from tests.integration.router.triton_calls import (
    Transport,
    a_body,
    a_call,
    eventually,
    failure_of,
    run,
    stream,
    tiny_template,
)
from turnpike.router.v1 import router_pb2

pytestmark = pytest.mark.timeout(180)
NOWHERE = "127.0.0.1:1"


@pytest.fixture(params=["grpc", "http"])
def transport(request: pytest.FixtureRequest) -> Transport:
    chosen: Transport = request.param
    return chosen


@pytest.fixture
async def relays(triton: Triton, transport: Transport) -> AsyncIterator[list[Relay]]:
    target = triton.grpc_address if transport == "grpc" else triton.http_address
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_relay(target)) for _ in range(2)]


def config_of(
    addresses: list[str], transport: Transport, model: str = "tiny-chat", **rules: Any
) -> TritonConfig:
    return TritonConfig(
        model_name=model,
        template=tiny_template(),
        servers=tuple(TritonAddress(address, address) for address in addresses),
        transport=transport,
        rules=Rules(**{"interval_s": 30.0, **rules}),
    )


@asynccontextmanager
async def opened(
    relays: list[Relay], transport: Transport, model: str = "tiny-chat", **rules: Any
) -> AsyncIterator[TritonProvider]:
    config = config_of([relay.address for relay in relays], transport, model, **rules)
    async with open_triton(config) as provider:
        yield provider


async def test_load_is_spread_over_both_servers(relays: list[Relay], transport: Transport) -> None:
    async with opened(relays, transport, "tiny-paced") as provider:
        call = a_call(max_tokens=20)
        outcomes = await asyncio.gather(
            *(run(provider, call, a_body(seed=seed, ignore_eos=True)) for seed in range(8))
        )

    assert {20} == {outcome.completion_tokens for outcome in outcomes}
    # An HTTP connection carries one request at a time, a gRPC channel all of them.
    assert all(relay.connection_count >= (4 if transport == "http" else 1) for relay in relays)


async def test_server_that_is_gone_costs_no_request(
    relays: list[Relay], transport: Transport
) -> None:
    async with opened(relays, transport) as provider:
        await run(provider, a_call(max_tokens=3), a_body(seed=1))
        await relays[0].cut()

        outcomes = [
            await run(provider, a_call(max_tokens=3), a_body(seed=seed)) for seed in range(12)
        ]
        is_ready = await provider.probe()

    assert all(outcome.text for outcome in outcomes)
    assert is_ready


async def test_servers_that_are_all_gone_are_told_as_they_failed(
    relays: list[Relay], transport: Transport
) -> None:
    async with opened(relays, transport) as provider:
        for relay in relays:
            await relay.cut()
        error, batches = await failure_of(provider, a_call(), a_body())

    assert error.failure in (Failure.CONNECT, Failure.UNAVAILABLE)
    assert [] == batches


async def test_error_in_the_middle_is_a_broken_answer_and_the_next_one_is_whole(
    relays: list[Relay], transport: Transport
) -> None:
    async with opened(relays, transport, "tiny-paced") as provider:
        body = a_body(seed=2, ignore_eos=True)
        async with aclosing(stream(provider, a_call(max_tokens=3000), body)) as batches:
            await anext(batches)
            (asked,) = [s.name for s in provider.servers if s.in_flight_count]
            await next(relay for relay in relays if relay.address == asked).cut()
            with pytest.raises(ProviderError) as caught:
                async for _ in batches:
                    pass
        after = await run(provider, a_call(max_tokens=3), a_body(seed=3, ignore_eos=True))

    assert Failure.INCOMPLETE is caught.value.failure
    assert 3 == after.completion_tokens


async def test_server_that_fell_silent_is_found_out_by_its_readiness(
    relays: list[Relay], transport: Transport
) -> None:
    async with opened(relays, transport, interval_s=0.05, probe_s=0.4) as provider:
        await run(provider, a_call(max_tokens=3), a_body(seed=1))
        relays[0].hush()
        await eventually(lambda: not all(server.is_ready for server in provider.servers))

        outcomes = [
            await run(provider, a_call(max_tokens=3), a_body(seed=seed)) for seed in range(8)
        ]

    assert all(outcome.text for outcome in outcomes)


async def test_server_that_is_too_old_is_no_server(
    relays: list[Relay], transport: Transport
) -> None:
    async with opened(relays, transport, version_min="99.1") as provider:
        error, _ = await failure_of(provider, a_call(), a_body())

    assert Failure.UNAVAILABLE is error.failure
    assert "The Triton server has version 2.51.0; 99.1 is needed." == error.message


async def test_embeddings_go_to_the_server_that_is_there(
    relays: list[Relay], transport: Transport
) -> None:
    config = config_of([NOWHERE, relays[0].address], transport, "tiny-embed")
    call = a_call(is_streaming=False, max_tokens=0, operation=router_pb2.OPERATION_EMBEDDING)
    until_s = asyncio.get_running_loop().time() + 30

    found: list[Batch] = []
    async with open_triton_embedder(config, EmbeddingTensors()) as provider:
        for text in "abcdef":
            body = a_body(input=text)
            found += [batch async for batch in provider.stream(call, body, deadline_s=until_s)]

    assert 6 == len(found)
    assert all(msgspec.json.decode(batch.completion)["data"] for batch in found)


async def test_queue_of_a_server_is_seen_and_is_gone_with_it(
    triton: Triton, transport: Transport
) -> None:
    address = TritonAddress(triton.grpc_address, triton.http_address, triton.metrics_address)
    model = "tiny-trtllm-paced"
    config = replace(config_of([], transport, model, interval_s=0.05), servers=(address,))
    bare = replace(config, servers=(address._replace(metrics=""),))
    async with open_triton(config) as provider, open_triton(bare) as others:
        call = a_call(max_tokens=3000)
        async with asyncio.TaskGroup() as group:
            readers = [
                group.create_task(run(others, call, a_body(seed=seed, min_tokens=3000)))
                for seed in range(6100, 6105)
            ]
            await eventually(lambda: provider.backlog_count() == 5)
            for reader in readers:
                reader.cancel()
        await eventually(lambda: provider.backlog_count() == 0)

    assert 0 == others.backlog_count()


async def test_server_without_metrics_has_no_queue(triton: Triton, transport: Transport) -> None:
    address = TritonAddress(triton.grpc_address, triton.http_address, NOWHERE)
    config = replace(config_of([], transport, interval_s=0.01), servers=(address,))
    async with open_triton(config) as provider:
        outcome = await run(provider, a_call(max_tokens=3), a_body(seed=1))

        assert 0 == provider.backlog_count()
    assert outcome.text
