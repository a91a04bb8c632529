"""A gRPC channel into the same process: generated stubs on one side, servicers on the other.

A call runs in its caller's task and messages go by reference: they are read-only once passed.
`LocalMode.COPY` and `VERIFY` prove in tests that nobody relies on more.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from enum import StrEnum
from typing import Any, Final, NoReturn, Self

import grpc
import structlog
from grpc import aio

from kit.errors import TurnpikeError
from kit.rpc.limits import MESSAGE_BYTES_MAX
from kit.rpc.local_context import LocalContext
from kit.rpc.status import internal_error, rpc_error

_log: Final = structlog.get_logger("kit.rpc")
Handler = Any
"""A `grpc.RpcMethodHandler`; its class is generic in the type stubs only."""


class LocalMode(StrEnum):
    """What happens to a message on its way."""

    BY_REFERENCE = "by_reference"
    COPY = "copy"
    VERIFY = "verify"


class HandlerTable:
    """Takes the server's place in `add_XServicer_to_server(servicer, table)`."""

    def __init__(self) -> None:
        self._by_method: dict[str, Handler] = {}

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Accept what generated code also registers; the named handlers are what is used."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """Take a service's handlers.

        Raises:
            TypeError: One of them takes a stream of requests.
        """
        for name, handler in handlers.items():
            if handler.request_streaming:
                raise TypeError(f"{service}/{name} takes a stream of requests.")
            self._by_method[f"/{service}/{name}"] = handler

    def find(self, method: str) -> Handler:
        """Return a method's handler.

        Raises:
            AioRpcError: `UNIMPLEMENTED`.
        """
        handler = self._by_method.get(method)
        if handler is None:
            raise aio.AioRpcError(
                grpc.StatusCode.UNIMPLEMENTED, aio.Metadata(), aio.Metadata(), details=method
            )
        return handler


class LocalChannel(aio.Channel):
    """A channel to the servicers of one table."""

    def __init__(self, table: HandlerTable, *, mode: LocalMode = LocalMode.BY_REFERENCE) -> None:
        self._table = table
        self._mode = mode

    def unary_unary(self, method: str, *_codecs: object, **_options: object) -> Any:  # noqa: ANN401
        """Return what calls a unary method."""

        async def call(
            request: Any,  # noqa: ANN401 - any message
            *,
            timeout: float | None = None,
            metadata: Any = None,  # noqa: ANN401 - gRPC's metadata forms
            **_more: object,
        ) -> Any:  # noqa: ANN401 - any message
            behaviour = self._table.find(method).unary_unary
            carrier = _Carrier(self._mode)
            context = _context(metadata, timeout)
            try:
                async with asyncio.timeout(timeout):
                    answer = await behaviour(carrier.take(request), context)
                context.check()
                return carrier.take(answer)
            except Exception as error:  # noqa: BLE001 - the border between rooms
                raise_outward(error, method)
            finally:
                context.is_done = True
                carrier.check()

        return call

    def unary_stream(self, method: str, *_codecs: object, **_options: object) -> Any:  # noqa: ANN401
        """Return what calls a method that answers with a stream."""

        def call(
            request: Any,  # noqa: ANN401 - any message
            *,
            timeout: float | None = None,
            metadata: Any = None,  # noqa: ANN401 - gRPC's metadata forms
            **_more: object,
        ) -> LocalStream:
            carrier = _Carrier(self._mode)
            context = _context(metadata, timeout)
            return LocalStream(self._table, method, carrier.take(request), context, carrier)

        return call

    def stream_unary(self, method: str, *_codecs: object, **_options: object) -> NoReturn:
        """Refuse at wiring.

        Raises:
            TypeError: Always.
        """
        raise TypeError(f"{method} takes a stream of requests; use a socket.")

    stream_stream = stream_unary

    async def close(self, grace: float | None = None) -> None:
        """Do nothing: there is no connection."""
        del grace

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: FBT001, FBT002 - gRPC's signature
        """Return READY."""
        del try_to_connect
        return grpc.ChannelConnectivity.READY

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait for ever when asked to leave READY."""
        if last_observed_state is grpc.ChannelConnectivity.READY:
            await asyncio.get_running_loop().create_future()

    async def channel_ready(self) -> None:
        """Return at once."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        return None


class LocalStream:
    """A running stream: each message is pulled from the servicer when it is asked for."""

    __slots__ = ("_carrier", "_context", "_generator", "_is_plain", "_method")

    def __init__(
        self,
        table: HandlerTable,
        method: str,
        request: Any,  # noqa: ANN401 - any message
        context: LocalContext,
        carrier: "_Carrier",
    ) -> None:
        self._method = method
        self._context = context
        self._carrier = carrier
        self._is_plain = carrier.mode is LocalMode.BY_REFERENCE
        try:
            self._generator = table.find(method).unary_stream(request, context)
        except aio.AioRpcError as error:
            self._generator = _raise_first(error)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:  # noqa: ANN401 - any message
        left_s = self._context.time_remaining()
        try:
            if left_s is None:
                message = await self._generator.__anext__()
            else:
                async with asyncio.timeout(left_s):
                    message = await self._generator.__anext__()
        except StopAsyncIteration:
            self._end()
            raise
        except Exception as error:  # noqa: BLE001 - the border between rooms
            self._end()
            raise_outward(error, self._method)
        return message if self._is_plain else self._carrier.take(message)

    async def read(self) -> Any:  # noqa: ANN401 - any message or aio.EOF
        """Return the next message, `aio.EOF` at the end."""
        try:
            return await self.__anext__()
        except StopAsyncIteration:
            return aio.EOF

    async def aclose(self) -> None:
        """Close the servicer's generator; its clean-up has run when this returns."""
        if not self._context.is_done:
            await self._generator.aclose()
            self._end()

    def done(self) -> bool:
        """Return whether the stream has ended."""
        return self._context.is_done

    def _end(self) -> None:
        self._context.is_done = True
        self._carrier.check()


class _Carrier:
    """Carries one call's messages in the channel's mode."""

    __slots__ = ("_passed", "mode")

    def __init__(self, mode: LocalMode) -> None:
        self.mode = mode
        self._passed: list[tuple[Any, bytes]] = []

    def take(self, message: Any) -> Any:  # noqa: ANN401 - any message
        """Return the message as the other side gets it."""
        if self.mode is LocalMode.BY_REFERENCE:
            return message
        data = message.SerializeToString(deterministic=True)
        if len(data) > MESSAGE_BYTES_MAX:
            raise aio.AioRpcError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                aio.Metadata(),
                aio.Metadata(),
                details=f"The message has {len(data)} bytes; the limit is {MESSAGE_BYTES_MAX}.",
            )
        if self.mode is LocalMode.COPY:
            return type(message).FromString(data)
        self._passed.append((message, data))
        return message

    def check(self) -> None:
        """Compare what was passed with what it is now.

        Raises:
            AssertionError: Somebody changed a message after passing it.
        """
        passed, self._passed = self._passed, []
        for message, data in passed:
            if message.SerializeToString(deterministic=True) != data:
                raise AssertionError(f"A {type(message).__name__} was changed after it was passed.")


def raise_outward(error: Exception, method: str) -> NoReturn:
    """Raise what a caller over a socket would have caught."""
    if isinstance(error, TurnpikeError):
        raise rpc_error(error) from error
    if isinstance(error, aio.AioRpcError):
        raise error
    if isinstance(error, TimeoutError):
        raise aio.AioRpcError(
            grpc.StatusCode.DEADLINE_EXCEEDED, aio.Metadata(), aio.Metadata(), details=method
        ) from error
    _log.error("servicer_failed", method=method, exc_info=error)
    raise rpc_error(internal_error()) from error


def _context(metadata: Any, timeout: float | None) -> LocalContext:  # noqa: ANN401 - gRPC's forms
    deadline_s = None if timeout is None else asyncio.get_running_loop().time() + timeout
    return LocalContext(
        metadata=aio.Metadata(*metadata) if metadata else None, deadline_s=deadline_s
    )


async def _raise_first(error: aio.AioRpcError) -> AsyncIterator[Any]:
    raise error
    yield


Register = Callable[[Any], None]
"""What a generated `add_XServicer_to_server` becomes when its servicer is bound."""
