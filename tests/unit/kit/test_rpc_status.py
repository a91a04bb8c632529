"""Errors on the wire and back, whatever arrives."""

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from kit.errors import OUTWARD, Reason, TurnpikeError
from kit.rpc.status import (
    DETAILS_KEY,
    DOMAIN,
    INTERNAL_MESSAGE,
    code_of,
    error_from_rpc,
    internal_error,
    rpc_error,
    trailers_of,
)

FOREIGN_TEXT = "10.0.0.7:5432 refused the password"


def foreign(code: grpc.StatusCode, trailers: aio.Metadata | None = None) -> aio.AioRpcError:
    return aio.AioRpcError(code, aio.Metadata(), trailers or aio.Metadata(), details=FOREIGN_TEXT)


def with_details(*details: Message) -> aio.AioRpcError:
    status = status_pb2.Status(code=8, message="Told by the status.")
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    trailers = aio.Metadata((DETAILS_KEY, status.SerializeToString()))
    return foreign(grpc.StatusCode.RESOURCE_EXHAUSTED, trailers)


def info(**fields: object) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(
        **{"reason": Reason.OVERLOADED.value, "domain": DOMAIN, **fields}
    )


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_comes_back_as_it_went(reason: Reason) -> None:
    error = TurnpikeError(reason, "Ünïcode is 3; 7 needed.", param="max_tokens", retry_after_s="1")

    caught = rpc_error(error)
    found = error_from_rpc(caught)

    assert OUTWARD[reason].grpc_code == caught.code().name
    assert error.message == caught.details()
    assert (reason, error.message, error.metadata) == (found.reason, found.message, found.metadata)


def test_status_carries_exactly_one_detail_of_our_domain() -> None:
    error = TurnpikeError(Reason.KEY_SCOPE, "The key lacks a scope.", param="key")

    status = status_pb2.Status.FromString(trailers_of(error)[DETAILS_KEY])
    found = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(found)

    assert code_of(error).value[0] == status.code
    assert 1 == len(status.details)
    assert ("KEY_SCOPE", DOMAIN, {"param": "key"}) == (
        found.reason,
        found.domain,
        dict(found.metadata),
    )


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.value[0]])
def test_foreign_status_never_shows_its_text(code: grpc.StatusCode) -> None:
    expected = {
        grpc.StatusCode.UNAVAILABLE: Reason.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED: Reason.TIMEOUT,
    }

    found = error_from_rpc(foreign(code))

    assert expected.get(code, Reason.INTERNAL) is found.reason
    assert FOREIGN_TEXT not in str(found)
    assert {} == found.metadata


def test_status_without_metadata_is_understood() -> None:
    error = aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, None, None)

    found = error_from_rpc(error)

    assert Reason.UNAVAILABLE is found.reason


@pytest.mark.parametrize("raw", [b"\xff\xff\xff", b"", "text"], ids=["garbage", "empty", "text"])
def test_broken_details_are_a_foreign_status(raw: bytes | str) -> None:
    error = foreign(grpc.StatusCode.UNAVAILABLE, aio.Metadata((DETAILS_KEY, raw)))

    found = error_from_rpc(error)

    assert Reason.UNAVAILABLE is found.reason
    assert FOREIGN_TEXT not in str(found)


@pytest.mark.parametrize(
    "detail",
    [info(domain="elsewhere"), info(reason="FROM_THE_FUTURE"), duration_pb2.Duration(seconds=1)],
    ids=["domain", "reason", "type"],
)
def test_details_that_are_not_ours_are_a_foreign_status(detail: Message) -> None:
    found = error_from_rpc(with_details(detail))

    assert (Reason.INTERNAL, INTERNAL_MESSAGE) == (found.reason, found.message)


def test_broken_detail_of_the_right_type_is_a_foreign_status() -> None:
    status = status_pb2.Status(code=8)
    status.details.add(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff")
    trailers = aio.Metadata((DETAILS_KEY, status.SerializeToString()))

    found = error_from_rpc(foreign(grpc.StatusCode.RESOURCE_EXHAUSTED, trailers))

    assert Reason.INTERNAL is found.reason


def test_our_detail_is_found_behind_others() -> None:
    found = error_from_rpc(with_details(duration_pb2.Duration(seconds=1), info()))

    assert (Reason.OVERLOADED, "Told by the status.") == (found.reason, found.message)


def test_metadata_may_have_any_names() -> None:
    metadata = {"reason": "a", "message": "b", "self": "c"}

    found = error_from_rpc(with_details(info(metadata=metadata)))

    assert metadata == found.metadata


def test_error_of_another_kind_of_grpc_is_internal() -> None:
    found = error_from_rpc(grpc.RpcError(FOREIGN_TEXT))

    assert str(internal_error()) == str(found)
