"""What only one kind of channel can show: changed messages, the door, health."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from kit.errors import Reason
from kit.rpc.local import HandlerTable, LocalChannel
from kit.rpc.remote import open_channel
from kit.rpc.server import Server, Terms, open_server
from kit.rpc.status import error_from_rpc
from kit.rpc.streams import close_stream
from tests.fakes.openai_calls import eventually
from tests.fakes.rpc_rooms import (
    AUTH,
    ROUTER,
    TOKEN,
    Batch,
    Context,
    ScriptedAuth,
    ScriptedRouter,
    batch,
    failure,
    numbers,
    open_rooms,
    request,
)
from turnpike.auth.v1 import auth_pb2, auth_pb2_grpc
from turnpike.router.v1 import router_pb2_grpc

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def verify(_request: object, _context: Context) -> auth_pb2.VerifyKeyResponse:
    return auth_pb2.VerifyKeyResponse()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    room = ScriptedAuth()  # type: ignore[abstract]
    room.verify = verify

    def register(server: aio.Server) -> None:
        auth_pb2_grpc.add_AuthServiceServicer_to_server(room, server)

    async with open_server(
        "127.0.0.1:0",
        register=register,
        services=[AUTH],
        terms=Terms.for_services(TOKEN),
        grace_s=0,
    ) as opened:
        yield opened


@pytest.fixture
async def channel(server: Server) -> AsyncIterator[aio.Channel]:
    async with open_channel(f"127.0.0.1:{server.port}", token=TOKEN) as opened:
        yield opened


@pytest.fixture
async def stranger(server: Server) -> AsyncIterator[aio.Channel]:
    async with open_channel(f"127.0.0.1:{server.port}", token="guessed") as opened:
        yield opened


async def test_verify_mode_catches_a_servicer_that_changes_its_request() -> None:
    async def change(request: auth_pb2.VerifyKeyRequest, _context: Context) -> Any:
        request.key_digest = b"changed"
        return auth_pb2.VerifyKeyResponse()

    async with open_rooms("local-verify") as rooms:
        rooms.auth_room.verify = change

        with pytest.raises(AssertionError, match="VerifyKeyRequest was changed"):
            await rooms.verify()


async def test_verify_mode_catches_a_servicer_that_reuses_a_message() -> None:
    async def answer(_request: object, _context: Context) -> AsyncIterator[Batch]:
        message = batch(1)
        yield message
        message.content_event_count = 2
        yield message

    async with open_rooms("local-verify") as rooms:
        rooms.router_room.answer = answer

        with pytest.raises(AssertionError, match="was changed"):
            [message async for message in rooms.stream()]


async def test_verify_mode_catches_a_caller_that_changes_what_it_got() -> None:
    async def answer(_request: object, _context: Context) -> AsyncIterator[Batch]:
        yield batch(1)
        yield batch(2)

    async with open_rooms("local-verify") as rooms:
        rooms.router_room.answer = answer
        call = rooms.stream()
        message = await call.read()
        message.content_event_count = 3

        with pytest.raises(AssertionError, match="was changed"):
            await close_stream(call)


async def test_copy_mode_hands_on_equal_messages_that_are_not_the_same() -> None:
    message = batch(1)

    async def answer(_request: object, _context: Context) -> AsyncIterator[Batch]:
        yield message

    async with open_rooms("local-copy") as rooms:
        rooms.router_room.answer = answer

        found = [message async for message in rooms.stream()]

    assert [message] == found
    assert found[0] is not message


async def test_message_that_is_ready_after_the_deadline_is_not_handed_over_locally() -> None:
    now_s = asyncio.get_running_loop().time
    async with open_rooms("local") as rooms:
        rooms.router_room.answer = numbers(2)
        end_s = now_s() + 0.5
        call = rooms.stream(timeout=0.5)
        await call.read()
        await eventually(lambda: now_s() > end_s)

        error = await failure(call.read())

    assert grpc.StatusCode.DEADLINE_EXCEEDED is error.code()


async def test_table_refuses_a_method_that_takes_a_stream_of_requests() -> None:
    class Reflects(reflection_pb2_grpc.ServerReflectionServicer):  # type: ignore[misc]
        """Takes a stream."""

    with pytest.raises(TypeError, match="stream of requests"):
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(Reflects(), HandlerTable())


async def test_local_channel_is_ready_and_refuses_streams_of_requests() -> None:
    async with LocalChannel(HandlerTable()) as channel:
        await channel.channel_ready()

        assert grpc.ChannelConnectivity.READY is channel.get_state()
        with pytest.raises(TypeError, match="use a socket"):
            channel.stream_stream("/x/Y")


async def test_stream_is_not_closed_under_another_task_that_reads_it() -> None:
    async def answer(_request: object, _context: Context) -> AsyncIterator[Batch]:
        await asyncio.Event().wait()
        yield batch(0)

    async with open_rooms("local") as rooms:
        rooms.router_room.answer = answer
        call = rooms.stream()
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(call.read())
            await asyncio.sleep(0)

            with pytest.raises(RuntimeError, match="task that reads"):
                await close_stream(call)
            reader.cancel()


async def test_wrong_token_is_refused_by_unary_calls_streams_and_reflection(
    stranger: aio.Channel,
) -> None:
    auth = auth_pb2_grpc.AuthServiceStub(stranger)
    path = f"/{ROUTER}/Run"
    stream: Any = stranger.unary_stream(path, request_serializer=lambda _: b"")
    reflect = reflection_pb2_grpc.ServerReflectionStub(stranger).ServerReflectionInfo

    unary = await failure(auth.VerifyKey(auth_pb2.VerifyKeyRequest()))
    streamed = await failure(stream(None).read())
    reflected = await failure(reflect(iter([reflection_pb2.ServerReflectionRequest()])).read())

    codes = {unary.code(), streamed.code(), reflected.code()}
    assert {grpc.StatusCode.UNAUTHENTICATED} == codes
    assert Reason.INTERNAL is error_from_rpc(unary).reason


async def test_health_is_open_and_follows_set_serving(
    server: Server, stranger: aio.Channel
) -> None:
    check = health_pb2_grpc.HealthStub(stranger).Check
    states = []

    for is_serving in (True, False, True):
        await server.set_serving(is_serving=is_serving)
        whole = await check(health_pb2.HealthCheckRequest())
        part = await check(health_pb2.HealthCheckRequest(service=AUTH))
        states += [whole.status, part.status]

    assert [SERVING] * 2 + [NOT_SERVING] * 2 + [SERVING] * 2 == states


async def test_health_of_an_unknown_service_is_not_found(stranger: aio.Channel) -> None:
    check = health_pb2_grpc.HealthStub(stranger).Check

    error = await failure(check(health_pb2.HealthCheckRequest(service="nobody")))

    assert grpc.StatusCode.NOT_FOUND is error.code()


async def test_health_can_be_watched(server: Server, stranger: aio.Channel) -> None:
    call = health_pb2_grpc.HealthStub(stranger).Watch(health_pb2.HealthCheckRequest(service=AUTH))

    first = await call.read()
    await server.set_serving(is_serving=False)
    second = await call.read()
    call.cancel()

    assert [SERVING, NOT_SERVING] == [first.status, second.status]


async def test_reflection_lists_the_services(channel: aio.Channel) -> None:
    reflect = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
    shown = (("authorization", f"Bearer {TOKEN}"),)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")

    answers = [answer async for answer in reflect(iter([asked]), metadata=shown)]

    names = {each.name for each in answers[0].list_services_response.service}
    assert {AUTH, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"} == names


async def test_ending_server_lets_go_of_streams_and_callers_see_it_as_unavailable() -> None:
    ended = asyncio.Event()

    async def answer(_request: object, _context: Context) -> AsyncIterator[Batch]:
        try:
            yield batch(0)
            await asyncio.Event().wait()
        finally:
            ended.set()

    room = ScriptedRouter()  # type: ignore[abstract]
    room.answer = answer

    def register(server: aio.Server) -> None:
        router_pb2_grpc.add_RouterServiceServicer_to_server(room, server)

    async with (
        AsyncExitStack() as callers,
        asyncio.TaskGroup() as group,
        open_server(
            "127.0.0.1:0",
            register=register,
            services=[ROUTER],
            terms=Terms.for_services(TOKEN),
            grace_s=0,
        ) as server,
    ):
        opened = open_channel(f"127.0.0.1:{server.port}", token=TOKEN)
        channel = await callers.enter_async_context(opened)
        call = router_pb2_grpc.RouterServiceStub(channel).Run(request())
        await call.read()
        rest = group.create_task(failure(call.read()))
        await asyncio.sleep(0)

    await eventually(ended.is_set)
    assert Reason.UNAVAILABLE is error_from_rpc(rest.result()).reason


async def test_peer_that_is_not_there_is_unavailable(unused_port: int) -> None:
    async with open_channel(f"127.0.0.1:{unused_port}", token=TOKEN) as channel:
        auth = auth_pb2_grpc.AuthServiceStub(channel)

        error = await failure(auth.VerifyKey(auth_pb2.VerifyKeyRequest(), timeout=10))

    assert Reason.UNAVAILABLE is error_from_rpc(error).reason


async def test_address_that_is_taken_is_an_os_error(server: Server) -> None:
    taken = open_server(
        f"127.0.0.1:{server.port}",
        register=lambda _: None,
        services=[],
        terms=Terms.for_services(TOKEN),
    )

    with pytest.raises(OSError, match="cannot be listened on"):
        await taken.__aenter__()


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
