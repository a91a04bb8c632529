"""A gRPC channel into the same process: generated stubs on one side, servicers on the other.

A call runs in its caller's task and messages go by reference: they are read-only once passed.
`LocalMode.COPY` and `VERIFY` prove in tests that nobody relies on more. What a caller catches, and
when, is the same as over a socket.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from enum import StrEnum
from typing import Any, NoReturn, Self

import grpc
from grpc import aio

from kit.rpc.border import is_cancelled, outward
from kit.rpc.limits import MESSAGE_BYTES_MAX
from kit.rpc.local_context import LocalContext
from kit.rpc.status import rpc_error

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

    def find(self, method: str) -> Handler | None:
        """Return a method's handler, None when there is no such method."""
        return self._by_method.get(method)


class LocalChannel(aio.Channel):
    """A channel to the servicers of one table."""

    def __init__(self, table: HandlerTable, *, mode: LocalMode = LocalMode.BY_REFERENCE) -> None:
        self._table = table
        self._mode = mode
        self._by_reference = _Carrier(LocalMode.BY_REFERENCE)

    def unary_unary(self, method: str, *_codecs: object, **_options: object) -> Any:  # noqa: ANN401
        """Return what calls a unary method."""

        async def call(
            request: Any,  # noqa: ANN401 - any message
            *,
            timeout: float | None = None,
            metadata: Any = None,  # noqa: ANN401 - gRPC's metadata forms
            **_more: object,
        ) -> Any:  # noqa: ANN401 - any message
            carrier = self._carrier()
            context = LocalContext(metadata=metadata, timeout_s=timeout)
            try:
                behaviour = self._handler(method).unary_unary
                passed = carrier.take(request)
                if timeout is None:
                    answer = await behaviour(passed, context)
                else:
                    answer = await _within(timeout, behaviour, passed, context)
                answer = carrier.take(answer)
            except Exception as error:  # noqa: BLE001 - the border between rooms
                _raise_outward(error, method, context)
            except asyncio.CancelledError as error:
                if is_cancelled():
                    raise
                _raise_outward(error, method, context)
            finally:
                context.is_done = True
                carrier.check()
            if context.has_failed:
                raise context.status()
            return answer

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
            carrier = self._carrier()
            context = LocalContext(metadata=metadata, timeout_s=timeout)
            try:
                messages = self._handler(method).unary_stream(carrier.take(request), context)
            except Exception as error:  # noqa: BLE001 - raised when the first message is asked for
                messages = _raise_first(error)
            return LocalStream(messages, method=method, context=context, carrier=carrier)

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

    def _carrier(self) -> "_Carrier":
        """Return what carries one call; messages by reference leave nothing to remember."""
        if self._mode is LocalMode.BY_REFERENCE:
            return self._by_reference
        return _Carrier(self._mode)

    def _handler(self, method: str) -> Handler:
        handler = self._table.find(method)
        if handler is None:
            raise _RefusedError(grpc.StatusCode.UNIMPLEMENTED, method)
        return handler


class LocalStream:
    """A running stream: each message is pulled from the servicer when it is asked for."""

    __slots__ = ("_carrier", "_context", "_is_plain", "_messages", "_method")

    def __init__(
        self,
        messages: Any,  # noqa: ANN401 - a servicer's generator
        *,
        method: str,
        context: LocalContext,
        carrier: "_Carrier",
    ) -> None:
        self._messages = messages
        self._method = method
        self._context = context
        self._carrier = carrier
        self._is_plain = carrier.mode is LocalMode.BY_REFERENCE and context.deadline_s is None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:  # noqa: ANN401 - any message
        try:
            if self._is_plain:
                return await self._messages.__anext__()
            return self._carrier.take(await self._next_in_time())
        except StopAsyncIteration:
            self._end()
            if self._context.has_failed:
                raise self._context.status() from None
            raise
        except Exception as error:  # noqa: BLE001 - the border between rooms
            await self.aclose()
            _raise_outward(error, self._method, self._context)
        except asyncio.CancelledError as error:
            self._context.is_done = True
            if is_cancelled():
                raise
            _raise_outward(error, self._method, self._context)

    async def read(self) -> Any:  # noqa: ANN401 - any message or aio.EOF
        """Return the next message, `aio.EOF` at the end."""
        try:
            return await self.__anext__()
        except StopAsyncIteration:
            return aio.EOF

    async def aclose(self) -> None:
        """Close the servicer's generator; its clean-up has run when this returns.

        Raises:
            RuntimeError: Another task waits for a message of this stream.
        """
        if self._context.is_done:
            return
        if self._messages.ag_running:
            raise RuntimeError("A stream is closed by the task that reads it.")
        try:
            await self._messages.aclose()
        except Exception as error:  # noqa: BLE001 - the caller has left; it is logged
            outward(error, self._method)
        self._end()

    def done(self) -> bool:
        """Return whether the stream has ended."""
        return self._context.is_done

    async def _next_in_time(self) -> Any:  # noqa: ANN401 - any message
        left_s = self._context.time_remaining()
        if left_s is None:
            return await self._messages.__anext__()
        return await _within(left_s, self._messages.__anext__)

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
            raise _RefusedError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"The message has {len(data)} bytes; the limit is {MESSAGE_BYTES_MAX}.",
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
        if not self._passed:
            return
        passed, self._passed = self._passed, []
        for message, data in passed:
            if message.SerializeToString(deterministic=True) != data:
                raise AssertionError(f"A {type(message).__name__} was changed after it was passed.")


class _RefusedError(Exception):
    """The channel's own refusal, where a socket would have made one."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


async def _within(timeout_s: float, start: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401 - any message
    """Await what `start` returns, or refuse when that takes longer."""
    if timeout_s <= 0:
        raise _late()
    timer = asyncio.timeout(timeout_s)
    try:
        async with timer:
            answer = await start(*arguments)
    except Exception as error:
        if timer.expired():
            raise _late() from error
        raise
    if timer.expired():
        raise _late()
    return answer


def _late() -> _RefusedError:
    return _RefusedError(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")


def _raise_outward(error: BaseException, method: str, context: LocalContext) -> NoReturn:
    """Raise what a caller over a socket would have caught."""
    if isinstance(error, _RefusedError):
        raise aio.AioRpcError(
            error.code, aio.Metadata(), aio.Metadata(), details=error.details
        ) from error
    if isinstance(error, aio.AbortError):
        raise context.status() from error
    raise rpc_error(outward(error, method)) from error


async def _raise_first(error: Exception) -> AsyncIterator[Any]:
    raise error
    yield
