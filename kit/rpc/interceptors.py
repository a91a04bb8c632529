"""The server's two borders: errors are translated, and callers must show the service token."""

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import grpc
import structlog
from grpc import aio

from kit.errors import TurnpikeError
from kit.rpc.status import code_of, internal_error, trailers_of

_log: Final = structlog.get_logger("kit.rpc")
_HEALTH: Final = "/grpc.health.v1.Health/"
Handler = Any
"""A `grpc.RpcMethodHandler`; its class is generic in the type stubs only."""
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


async def _refuse(_request: object, context: aio.ServicerContext[Any, Any]) -> None:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, "The service token is missing or wrong.")


_REFUSAL: Final[Handler] = grpc.unary_unary_rpc_method_handler(_refuse)


async def _abort(error: Exception, context: aio.ServicerContext[Any, Any], method: str) -> None:
    if not isinstance(error, TurnpikeError):
        _log.error("servicer_failed", method=method, exc_info=error)
        error = internal_error()
    await context.abort(code_of(error), error.message, tuple(trailers_of(error)))


def _unary(behaviour: Any, method: str) -> Any:  # noqa: ANN401 - gRPC's handler types
    async def call(request: Any, context: aio.ServicerContext[Any, Any]) -> Any:  # noqa: ANN401
        try:
            return await behaviour(request, context)
        except aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - the border between rooms
            await _abort(error, context, method)

    return call


def _stream(behaviour: Any, method: str) -> Any:  # noqa: ANN401 - gRPC's handler types
    async def call(
        request: Any,  # noqa: ANN401 - any message
        context: aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[Any]:
        messages = behaviour(request, context)
        try:
            async for message in messages:
                yield message
        except aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - the border between rooms
            await _abort(error, context, method)
        finally:
            await messages.aclose()

    return call
