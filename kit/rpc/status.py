"""`TurnpikeError` on the wire and back: a gRPC status with exactly one `ErrorInfo`.

Source: google.rpc.Status in `grpc-status-details-bin`, AIP-193 (read 2026-11).
"""

from typing import Final

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from kit.errors import Reason, TurnpikeError

DOMAIN: Final = "turnpike"
DETAILS_KEY: Final = "grpc-status-details-bin"
INTERNAL_MESSAGE: Final = "Something went wrong inside Turnpike."

_BY_CODE: Final = {
    grpc.StatusCode.UNAVAILABLE: (Reason.UNAVAILABLE, "A service of Turnpike cannot be reached."),
    grpc.StatusCode.DEADLINE_EXCEEDED: (Reason.TIMEOUT, "A service of Turnpike did not answer."),
}


def code_of(error: TurnpikeError) -> grpc.StatusCode:
    """Return the gRPC code of an error."""
    code: grpc.StatusCode = grpc.StatusCode[error.outward.grpc_code]
    return code


def trailers_of(error: TurnpikeError) -> aio.Metadata:
    """Return the trailing metadata that carries the reason."""
    info = error_details_pb2.ErrorInfo(
        reason=error.reason.value, domain=DOMAIN, metadata=error.metadata
    )
    packed = any_pb2.Any()
    packed.Pack(info)
    number: int = code_of(error).value[0]
    status = status_pb2.Status(code=number, message=error.message, details=[packed])
    return aio.Metadata((DETAILS_KEY, status.SerializeToString()))


def rpc_error(error: TurnpikeError) -> aio.AioRpcError:
    """Return what a caller over a socket would have caught."""
    return aio.AioRpcError(
        code_of(error), aio.Metadata(), trailers_of(error), details=error.message
    )


def internal_error() -> TurnpikeError:
    """Return what is shown for a bug: nothing of it."""
    return TurnpikeError(Reason.INTERNAL, INTERNAL_MESSAGE)


def error_from_rpc(error: grpc.RpcError) -> TurnpikeError:
    """Return the `TurnpikeError` behind a failed call.

    A status without our `ErrorInfo` comes from the transport: it is unavailable, too late, or
    internal, and its text is not shown.
    """
    if not isinstance(error, aio.AioRpcError):
        return internal_error()
    raw = (error.trailing_metadata() or aio.Metadata()).get(DETAILS_KEY)
    if isinstance(raw, bytes) and (found := _unpack(raw)) is not None:
        return found
    reason, message = _BY_CODE.get(error.code(), (Reason.INTERNAL, INTERNAL_MESSAGE))
    return TurnpikeError(reason, message)


def _unpack(raw: bytes) -> TurnpikeError | None:
    info = error_details_pb2.ErrorInfo()
    try:
        status = status_pb2.Status.FromString(raw)
        is_ours = any(each.Unpack(info) and info.domain == DOMAIN for each in status.details)
    except DecodeError:
        return None
    if not is_ours or info.reason not in Reason.__members__:
        return None
    error = TurnpikeError(Reason(info.reason), status.message)
    error.metadata.update(info.metadata)
    return error
