"""Every kind of channel keeps the same promises to a caller and to a servicer."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import aio

from kit.errors import Reason
from kit.rpc.status import error_from_rpc
from kit.rpc.streams import close_stream
from tests.fakes.openai_calls import eventually
from tests.fakes.rpc_rooms import (
    KINDS,
    Batch,
    Context,
    Rooms,
    Watched,
    batch,
    failure,
    numbers,
    open_rooms,
    read_all,
    request,
)
from turnpike.auth.v1 import auth_pb2
from turnpike.type.v1 import principal_pb2

SECRET = "a prompt nobody may see"


@pytest.fixture(params=KINDS)
async def rooms(request: pytest.FixtureRequest) -> AsyncIterator[Rooms]:
    async with open_rooms(request.param) as opened:
        yield opened


async def test_unary_call_returns_the_answer(rooms: Rooms) -> None:
    async def verify(asked: auth_pb2.VerifyKeyRequest, _context: Context) -> Any:
        principal = principal_pb2.Principal(key_id=asked.key_digest.decode())
        return auth_pb2.VerifyKeyResponse(principal=principal)

    rooms.auth_room.verify = verify

    answer = await rooms.verify(timeout=10)

    assert "key" == answer.principal.key_id


async def test_stream_arrives_in_order_and_ends(rooms: Rooms) -> None:
    rooms.router_room.answer = numbers(50)

    found, error = await read_all(rooms.stream())

    assert (list(range(50)), None) == (found, error)


async def test_stream_can_be_read_message_by_message(rooms: Rooms) -> None:
    rooms.router_room.answer = numbers(1)
    call = rooms.stream(timeout=10)

    first, second = await call.read(), await call.read()

    assert 0 == first.content_event_count
    assert second is aio.EOF


async def test_deadline_ends_a_unary_call_and_its_servicer(rooms: Rooms) -> None:
    ended = asyncio.Event()

    async def verify(_request: object, _context: Context) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    rooms.auth_room.verify = verify

    error = await failure(rooms.verify(timeout=0.5))

    assert grpc.StatusCode.DEADLINE_EXCEEDED is error.code()
    assert Reason.TIMEOUT is error_from_rpc(error).reason
    await eventually(ended.is_set)


async def test_deadline_between_messages_ends_the_stream_and_its_servicer(rooms: Rooms) -> None:
    watched = Watched(2)
    rooms.router_room.answer = watched

    found, error = await read_all(rooms.stream(timeout=1.0))

    assert [0, 1] == found
    assert error is not None
    assert grpc.StatusCode.DEADLINE_EXCEEDED is error.code()
    await eventually(lambda: watched.has_ended)


async def test_deadline_that_passes_while_the_caller_is_busy_is_met_at_the_next_message(
    rooms: Rooms,
) -> None:
    watched = Watched(2)
    rooms.router_room.answer = watched
    now_s = asyncio.get_running_loop().time
    end_s = now_s() + 1.0
    call = rooms.stream(timeout=0.9)
    await call.read()
    await eventually(lambda: now_s() >= end_s)

    _, error = await read_all(call)

    assert error is not None
    assert grpc.StatusCode.DEADLINE_EXCEEDED is error.code()
    await eventually(lambda: watched.has_ended)


async def test_servicer_sees_how_much_time_is_left(rooms: Rooms) -> None:
    seen: list[float | None] = []

    async def verify(_request: object, context: Context) -> auth_pb2.VerifyKeyResponse:
        seen.append(context.time_remaining())
        return auth_pb2.VerifyKeyResponse()

    rooms.auth_room.verify = verify

    await rooms.verify(timeout=100)
    await rooms.verify()

    assert seen[0] is not None
    assert 0 < seen[0] <= 101
    assert seen[1] is None


@pytest.mark.parametrize("read_count", [1, 2], ids=["at-a-yield", "after-the-last"])
async def test_closing_a_stream_runs_the_servicers_clean_up(rooms: Rooms, read_count: int) -> None:
    watched = Watched(2)
    rooms.router_room.answer = watched
    call = rooms.stream()
    for _ in range(read_count):
        await call.read()

    await close_stream(call)

    await eventually(lambda: watched.has_ended)
    assert call.done()


async def test_clean_up_does_not_wait_until_the_servicers_generator_is_collected(
    rooms: Rooms,
) -> None:
    watched, kept = Watched(9), []

    def answer(request: Any, context: Context) -> AsyncIterator[Batch]:
        kept.append(watched(request, context))
        return kept[0]

    rooms.router_room.answer = answer
    call = rooms.stream()
    await call.read()

    await close_stream(call)

    await eventually(lambda: watched.has_ended)


async def test_closing_a_stream_that_was_never_read_or_has_ended_is_allowed(rooms: Rooms) -> None:
    rooms.router_room.answer = numbers(1)
    unread, ended = rooms.stream(), rooms.stream()
    await read_all(ended)

    await close_stream(unread)
    await close_stream(unread)
    await close_stream(ended)

    assert ended.done()


async def test_failing_clean_up_does_not_reach_a_caller_that_closes(rooms: Rooms) -> None:
    tried = asyncio.Event()

    async def answer(_request: object, _context: Context) -> AsyncIterator[Batch]:
        try:
            while True:
                yield batch(0)
                await asyncio.sleep(0)
        finally:
            tried.set()
            raise ValueError(SECRET)

    rooms.router_room.answer = answer
    call = rooms.stream()
    await call.read()

    await close_stream(call)

    await eventually(tried.is_set)


@pytest.mark.parametrize("is_waiting", [True, False], ids=["waiting", "busy-elsewhere"])
async def test_cancelling_the_callers_task_reaches_the_servicer(
    rooms: Rooms, is_waiting: bool
) -> None:
    watched = Watched(1 if is_waiting else 2)
    rooms.router_room.answer = watched
    has_read = asyncio.Event()

    async def caller() -> None:
        call = rooms.stream()
        try:
            await call.read()
            has_read.set()
            await (call.read() if is_waiting else asyncio.Event().wait())
        finally:
            await close_stream(call)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(caller())
        await has_read.wait()
        task.cancel()

    assert task.cancelled()
    await eventually(lambda: watched.has_ended)


async def test_cancelling_a_unary_call_reaches_the_servicer(rooms: Rooms) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def verify(_request: object, _context: Context) -> Any:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    rooms.auth_room.verify = verify

    async with asyncio.TaskGroup() as group:
        task = group.create_task(rooms.verify())
        await started.wait()
        task.cancel()

    assert task.cancelled()
    await eventually(ended.is_set)


async def test_metadata_reaches_the_servicer(rooms: Rooms) -> None:
    seen: list[dict[str, Any]] = []

    async def verify(_request: object, context: Context) -> auth_pb2.VerifyKeyResponse:
        seen.append(dict(context.invocation_metadata() or ()))
        return auth_pb2.VerifyKeyResponse()

    rooms.auth_room.verify = verify

    await rooms.verify(metadata=(("traceparent", "00-1"), ("raw-bin", b"\x00\xff")))
    await rooms.verify(metadata=aio.Metadata(("traceparent", "00-2")))
    await rooms.verify()

    assert ["00-1", "00-2", None] == [each.get("traceparent") for each in seen]
    assert b"\x00\xff" == seen[0]["raw-bin"]


async def test_hundred_streams_at_once_do_not_mix(rooms: Rooms) -> None:
    async def answer(asked: Any, _context: Context) -> AsyncIterator[Batch]:
        for number in range(5):
            await asyncio.sleep(0)
            yield batch(int(asked.body) + number)

    rooms.router_room.answer = answer
    starts = range(0, 1000, 10)
    calls = [rooms.router.Run(request(b"%d" % start)) for start in starts]

    answers = await asyncio.gather(*map(read_all, calls))

    assert [([*range(start, start + 5)], None) for start in starts] == answers
