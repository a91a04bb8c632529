"""What a caller catches, and when, is the same over every kind of channel."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import aio

from kit.errors import Reason, TurnpikeError
from kit.rpc.limits import MESSAGE_BYTES_MAX
from kit.rpc.status import INTERNAL_MESSAGE, error_from_rpc
from tests.fakes.rpc_rooms import (
    KINDS,
    Batch,
    Context,
    Rooms,
    batch,
    failure,
    numbers,
    open_rooms,
    raising,
    read_all,
    request,
)
from turnpike.auth.v1 import auth_pb2

SECRET = "a prompt nobody may see"
REFUSAL = TurnpikeError(Reason.RATE_LIMIT_EXCEEDED, "Try again later.", retry_after_s="7")


@pytest.fixture(params=KINDS)
async def rooms(request: pytest.FixtureRequest) -> AsyncIterator[Rooms]:
    async with open_rooms(request.param) as opened:
        yield opened


async def test_refusal_of_a_unary_call_keeps_all_it_says(rooms: Rooms) -> None:
    rooms.auth_room.verify = raising(REFUSAL)

    error = await failure(rooms.verify())

    assert grpc.StatusCode.RESOURCE_EXHAUSTED is error.code()
    assert REFUSAL.message == error.details()
    assert_is_refusal(error)


@pytest.mark.parametrize("count", [0, 3])
async def test_refusal_in_a_stream_follows_the_messages_before_it(rooms: Rooms, count: int) -> None:
    rooms.router_room.answer = numbers(count, then=REFUSAL)

    found, error = await read_all(rooms.stream())

    assert list(range(count)) == found
    assert_is_refusal(error)


async def test_refusal_before_the_stream_exists_is_caught_at_the_first_message(
    rooms: Rooms,
) -> None:
    def answer(_request: object, _context: Context) -> AsyncIterator[Batch]:
        raise REFUSAL

    rooms.router_room.answer = answer
    call = rooms.stream()

    found, error = await read_all(call)

    assert [] == found
    assert_is_refusal(error)


@pytest.mark.parametrize(
    "bug",
    [
        ValueError(SECRET),
        TimeoutError(SECRET),
        asyncio.CancelledError(SECRET),
        aio.AioRpcError(grpc.StatusCode.NOT_FOUND, aio.Metadata(), aio.Metadata(), details=SECRET),
    ],
    ids=["value", "timeout", "cancelled-by-nobody", "another-call"],
)
async def test_bug_is_internal_and_its_text_stays_inside(rooms: Rooms, bug: Exception) -> None:
    rooms.auth_room.verify = raising(bug)
    rooms.router_room.answer = numbers(2, then=bug)

    unary = await failure(rooms.verify(timeout=20))
    found, streamed = await read_all(rooms.stream(timeout=20))

    assert [0, 1] == found
    for error in (unary, streamed):
        assert error is not None
        assert grpc.StatusCode.INTERNAL is error.code()
        assert INTERNAL_MESSAGE == error.details()
        assert SECRET not in str(error)
        assert Reason.INTERNAL is error_from_rpc(error).reason


async def test_unknown_method_is_unimplemented(rooms: Rooms) -> None:
    path, encode = (
        "/turnpike.auth.v1.AuthService/Guess",
        auth_pb2.VerifyKeyRequest.SerializeToString,
    )
    unary: Any = rooms.channel.unary_unary(path, request_serializer=encode)
    stream: Any = rooms.channel.unary_stream(path, request_serializer=encode)

    error = await failure(unary(auth_pb2.VerifyKeyRequest()))
    _, streamed = await read_all(stream(auth_pb2.VerifyKeyRequest()))

    assert grpc.StatusCode.UNIMPLEMENTED is error.code()
    assert streamed is not None
    assert grpc.StatusCode.UNIMPLEMENTED is streamed.code()


async def test_abort_ends_a_call_with_its_status(rooms: Rooms) -> None:
    async def verify(_request: object, context: Context) -> Any:
        await context.abort(grpc.StatusCode.ABORTED, "Enough.", (("why", "because"),))

    async def answer(_request: object, context: Context) -> AsyncIterator[Batch]:
        yield batch(0)
        await context.abort(grpc.StatusCode.ABORTED, "Enough.", (("why", "because"),))

    rooms.auth_room.verify = verify
    rooms.router_room.answer = answer

    unary = await failure(rooms.verify())
    found, streamed = await read_all(rooms.stream())

    assert [0] == found
    for error in (unary, streamed):
        assert error is not None
        assert (grpc.StatusCode.ABORTED, "Enough.") == (error.code(), error.details())
        assert "because" == (error.trailing_metadata() or {}).get("why")


async def test_status_that_a_servicer_sets_ends_the_call(rooms: Rooms) -> None:
    async def verify(_request: object, context: Context) -> auth_pb2.VerifyKeyResponse:
        context.set_code(grpc.StatusCode.DATA_LOSS)
        context.set_details("Gone.")
        return auth_pb2.VerifyKeyResponse()

    async def answer(_request: object, context: Context) -> AsyncIterator[Batch]:
        yield batch(0)
        context.set_code(grpc.StatusCode.DATA_LOSS)
        context.set_details("Gone.")

    rooms.auth_room.verify = verify
    rooms.router_room.answer = answer

    unary = await failure(rooms.verify())
    found, streamed = await read_all(rooms.stream())

    assert [0] == found
    for error in (unary, streamed):
        assert error is not None
        assert (grpc.StatusCode.DATA_LOSS, "Gone.") == (error.code(), error.details())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "local"])
async def test_message_beyond_the_limit_is_refused_both_ways(kind: str) -> None:
    long = bytes(MESSAGE_BYTES_MAX + 1)

    async def answer(asked: Any, _context: Context) -> AsyncIterator[Batch]:
        yield batch(0)
        yield Batch(sse=long)

    async with open_rooms(kind) as rooms:
        rooms.router_room.answer = answer
        _, refused = await read_all(rooms.router.Run(request(long)))
        found, cut = await read_all(rooms.stream())

    assert [0] == found
    assert refused is not None
    assert cut is not None
    assert {grpc.StatusCode.RESOURCE_EXHAUSTED} == {refused.code(), cut.code()}


def assert_is_refusal(error: aio.AioRpcError | None) -> None:
    assert error is not None
    seen = error_from_rpc(error)
    assert (REFUSAL.reason, REFUSAL.message) == (seen.reason, seen.message)
    assert REFUSAL.metadata == seen.metadata
