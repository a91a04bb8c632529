"""JSON over HTTP for unary RPCs, without a line for each: messages are found by their descriptors.

The form is that of Connect's unary calls: a JSON object in, a JSON object out, and an error as an
object with a code. Field names are those of the `.proto` files, 64-bit integers are strings.

Source: connectrpc.com/docs/protocol, "Unary-Request" and "Error End-Stream"; protobuf.dev,
"ProtoJSON Format"; both read 2026-11.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.message import Message
from grpc import aio

from kit.errors import Reason, TurnpikeError
from kit.rpc.status import error_from_rpc

_DEPTH_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class Method:
    """One unary RPC: its full path and the classes of its messages."""

    path: str
    request: type[Message]
    response: type[Message]


class Transcoder:
    """Calls unary RPCs of the services that it was given channels to.

    Args:
        channels: A channel for each full service name, such as `turnpike.auth.v1.AuthService`;
            the generated modules of these services have been imported.
    """

    def __init__(self, channels: Mapping[str, aio.Channel]) -> None:
        self._channels = dict(channels)
        self._methods = {
            method.path: method for service in channels for method in unary_methods(service)
        }

    async def call(self, service: str, method: str, body: bytes, *, deadline_s: float) -> bytes:
        """Call `service/method` with a JSON request and return its JSON answer.

        Raises:
            TurnpikeError: NOT_FOUND for an unknown method, INVALID_JSON or INVALID_VALUE for a bad
                request, and whatever the service refused with.
        """
        found = self._methods.get(f"/{service}/{method}")
        if found is None:
            raise TurnpikeError(Reason.NOT_FOUND, f"There is no method {service}/{method}.")
        request = _parse(found.request, body)
        call = self._channels[service].unary_unary(
            found.path,
            request_serializer=found.request.SerializeToString,
            response_deserializer=found.response.FromString,
        )
        try:
            response = await call(request, timeout=deadline_s)
        except aio.AioRpcError as error:
            raise error_from_rpc(error) from error
        return _render(response)


def unary_methods(service: str) -> list[Method]:
    """Return the unary RPCs of a service whose generated module has been imported.

    Raises:
        KeyError: There is no such service.
    """
    descriptor = descriptor_pool.Default().FindServiceByName(service)
    return [
        Method(
            path=f"/{service}/{method.name}",
            request=message_factory.GetMessageClass(method.input_type),
            response=message_factory.GetMessageClass(method.output_type),
        )
        for method in descriptor.methods
        if not method.client_streaming and not method.server_streaming
    ]


def error_json(error: TurnpikeError) -> bytes:
    """Return an error as JSON: `code` in small letters, `message`, `reason` and `metadata`."""
    body = {
        "code": error.outward.grpc_code.lower(),
        "message": error.message,
        "reason": str(error.reason),
        "metadata": error.metadata,
    }
    return json.dumps(body).encode()


def _parse(kind: type[Message], body: bytes) -> Message:
    try:
        tree: Any = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise TurnpikeError(Reason.INVALID_JSON, "The body is no JSON.") from error
    if not isinstance(tree, dict):
        raise TurnpikeError(Reason.INVALID_JSON, "The body must be a JSON object.")
    try:
        return json_format.ParseDict(tree, kind(), max_recursion_depth=_DEPTH_MAX)
    except json_format.ParseError as error:
        message = f"The body is no {kind.DESCRIPTOR.name}: {error}."
        raise TurnpikeError(Reason.INVALID_VALUE, message) from error


def _render(message: Message) -> bytes:
    text = json_format.MessageToJson(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        indent=None,
    )
    return text.encode()
