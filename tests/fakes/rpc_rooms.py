"""Two scripted rooms behind any kind of channel, for the contract of channels."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from grpc import aio

from kit.rpc.local import HandlerTable, LocalChannel, LocalMode
from kit.rpc.remote import open_channel
from kit.rpc.server import Terms, open_server
from turnpike.auth.v1 import auth_pb2, auth_pb2_grpc
from turnpike.router.v1 import router_pb2, router_pb2_grpc

TOKEN = "a service token"
AUTH = "turnpike.auth.v1.AuthService"
ROUTER = "turnpike.router.v1.RouterService"
LOCAL_KINDS = {
    "local": LocalMode.BY_REFERENCE,
    "local-copy": LocalMode.COPY,
    "local-verify": LocalMode.VERIFY,
}
KINDS = (*LOCAL_KINDS, "grpc")

Context = aio.ServicerContext[Any, Any]
Batch = router_pb2.RunResponse


def batch(number: int) -> Batch:
    """Return a message that can be told from others."""
    return Batch(content_event_count=number)


class ScriptedAuth(auth_pb2_grpc.AuthServiceServicer):
    """Answers `VerifyKey` by a function that the test sets."""

    verify: Callable[[auth_pb2.VerifyKeyRequest, Context], Awaitable[auth_pb2.VerifyKeyResponse]]

    async def VerifyKey(
        self, request: auth_pb2.VerifyKeyRequest, context: Context
    ) -> auth_pb2.VerifyKeyResponse:
        return await self.verify(request, context)


class ScriptedRouter(router_pb2_grpc.RouterServiceServicer):
    """Streams what a function of the test yields."""

    answer: Callable[[router_pb2.RunRequest, Context], AsyncIterator[Batch]]

    def Run(self, request: router_pb2.RunRequest, context: Context) -> AsyncIterator[Batch]:
        return self.answer(request, context)


@dataclass(frozen=True)
class Rooms:
    """Both rooms and the stubs to them."""

    channel: aio.Channel
    auth_room: ScriptedAuth
    router_room: ScriptedRouter
    auth: "auth_pb2_grpc.AuthServiceAsyncStub"
    router: "router_pb2_grpc.RouterServiceAsyncStub"

    def stream(self, **options: Any) -> Any:
        """Open a stream."""
        return self.router.Run(request(), **options)

    async def verify(self, **options: Any) -> auth_pb2.VerifyKeyResponse:
        """Make a unary call."""
        return await self.auth.VerifyKey(auth_pb2.VerifyKeyRequest(key_digest=b"key"), **options)


def request(body: bytes = b"{}") -> router_pb2.RunRequest:
    """Return a request for a stream."""
    return router_pb2.RunRequest(body=body)


@asynccontextmanager
async def open_rooms(kind: str) -> AsyncIterator[Rooms]:
    """Open both rooms behind a channel of a kind."""
    auth_room = ScriptedAuth()  # type: ignore[abstract] # what is missing is not called
    router_room = ScriptedRouter()  # type: ignore[abstract]

    def register(server: Any) -> None:
        auth_pb2_grpc.add_AuthServiceServicer_to_server(auth_room, server)
        router_pb2_grpc.add_RouterServiceServicer_to_server(router_room, server)

    def rooms(channel: aio.Channel) -> Rooms:
        return Rooms(
            channel,
            auth_room,
            router_room,
            auth_pb2_grpc.AuthServiceStub(channel),
            router_pb2_grpc.RouterServiceStub(channel),
        )

    if kind in LOCAL_KINDS:
        table = HandlerTable()
        register(table)
        yield rooms(LocalChannel(table, mode=LOCAL_KINDS[kind]))
        return
    async with (
        open_server(
            "127.0.0.1:0",
            register=register,
            services=[AUTH, ROUTER],
            terms=Terms.for_services(TOKEN),
            grace_s=0,
        ) as server,
        open_channel(f"127.0.0.1:{server.port}", token=TOKEN) as channel,
    ):
        yield rooms(channel)


def numbers(count: int, then: BaseException | None = None) -> Any:
    """Return what streams 0, 1, ... and then perhaps fails."""

    async def answer(_request: object, _context: Context) -> AsyncIterator[Batch]:
        for number in range(count):
            yield batch(number)
        if then is not None:
            raise then

    return answer


def raising(error: BaseException) -> Any:
    """Return what fails a unary call."""

    async def verify(_request: object, _context: Context) -> auth_pb2.VerifyKeyResponse:
        raise error

    return verify


class Watched:
    """A stream that yields some messages, then waits for ever; knows whether it was closed."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.has_started = False
        self.has_ended = False

    async def __call__(self, _request: object, _context: Context) -> AsyncIterator[Batch]:
        self.has_started = True
        try:
            for number in range(self.count):
                yield batch(number)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.has_ended = True


async def read_all(call: Any) -> tuple[list[int], aio.AioRpcError | None]:
    """Return the numbers of a stream and how it failed."""
    found: list[int] = []
    try:
        async for message in call:
            found += [message.content_event_count]
    except aio.AioRpcError as error:
        return found, error
    return found, None


async def failure(call: Any) -> aio.AioRpcError:
    """Return how a call fails."""
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return caught.value
