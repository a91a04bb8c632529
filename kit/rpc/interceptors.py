"""The server's two borders: errors are translated, and callers must show the service token."""

import asyncio
import hmac
import inspect
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final, TypeAlias

import grpc
from grpc import aio

from kit.rpc.border import is_cancelled, outward
from kit.rpc.status import code_of, trailers_of

_HEALTH: Final = "/grpc.health.v1.Health/"
Handler = Any
"""A `grpc.RpcMethodHandler`; its class is generic in the type stubs only."""
Context: TypeAlias = aio.ServicerContext[Any, Any]
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler]]


class ErrorInterceptor(aio.ServerInterceptor):
    """Turns what a servicer raises into a status; a bug is logged and shown as internal."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """Wrap a handler."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            return handler
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                _unary(handler.unary_unary, method),
                handler.request_deserializer,
                handler.response_serializer,
            )
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                _stream(handler.unary_stream, method),
                handler.request_deserializer,
                handler.response_serializer,
            )
        return handler


class IdentityInterceptor(aio.ServerInterceptor):
    """Lets in who shows the service token; health is open."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """Refuse a call without the token."""
        if handler_call_details.method.startswith(_HEALTH):
            return await continuation(handler_call_details)
        metadata = dict(handler_call_details.invocation_metadata or ())
        shown = metadata.get("authorization", "")
        given = shown.encode() if isinstance(shown, str) else shown
        if hmac.compare_digest(given, self._expected):
            return await continuation(handler_call_details)
        return _REFUSAL


async def _refuse(_request: object, context: Context) -> None:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, "The service token is missing or wrong.")


_REFUSAL: Final[Handler] = grpc.unary_unary_rpc_method_handler(_refuse)


async def _abort(error: BaseException, context: Context, method: str) -> None:
    shown = outward(error, method)
    await context.abort(code_of(shown), shown.message, tuple(trailers_of(shown)))


def _unary(behaviour: Any, method: str) -> Any:  # noqa: ANN401 - gRPC's handler types
    async def call(request: Any, context: Context) -> Any:  # noqa: ANN401 - any message
        try:
            return await behaviour(request, context)
        except aio.BaseError:
            # gRPC's own: the servicer aborted, or the call is over.
            raise
        except Exception as error:  # noqa: BLE001 - the border between rooms
            await _abort(error, context, method)
        except asyncio.CancelledError as error:
            if is_cancelled():
                raise
            await _abort(error, context, method)

    return call


def _stream(behaviour: Any, method: str) -> Any:  # noqa: ANN401 - gRPC's handler types
    async def call(request: Any, context: Context) -> None:  # noqa: ANN401 - any message
        try:
            await _pump(behaviour(request, context), context)
        except aio.BaseError:
            raise
        except Exception as error:  # noqa: BLE001 - the border between rooms
            await _abort(error, context, method)
        except asyncio.CancelledError as error:
            if is_cancelled():
                raise
            await _abort(error, context, method)

    return call


async def _pump(answer: Any, context: Context) -> None:  # noqa: ANN401 - a servicer's generator
    """Write what a servicer yields; a cancelled call closes it at once, not on collection."""
    if inspect.isawaitable(answer):
        await answer
        return
    async with aclosing(answer) as messages:
        async for message in messages:
            await context.write(message)
