"""Unary RPCs can be called with JSON, and refusals stay what they are."""

import json
from typing import Any

import pytest

from kit.errors import Reason, TurnpikeError
from kit.rpc.transcode import Transcoder, error_json, unary_methods
from tests.fakes.rooms import SECRET, FakeRooms

AUTH = "turnpike.auth.v1.AuthService"


@pytest.fixture
def rooms() -> FakeRooms:
    return FakeRooms()


async def call(rooms: FakeRooms, method: str, body: object, service: str = AUTH) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await Transcoder(rooms.channels).call(service, method, raw, deadline_s=5.0)
    return json.loads(answer)


async def test_request_and_answer_carry_the_names_of_the_proto(rooms: FakeRooms) -> None:
    await call(rooms, "CreateAccount", {"name": "me"})

    answer = await call(
        rooms, "CreateKey", {"account_id": "account-0", "expire_time": "2027-01-01T00:00:00Z"}
    )

    assert SECRET == answer["secret"]
    assert "account-0" == answer["key"]["principal"]["account_id"]
    assert 1_798_761_600 == rooms.auth.requests[0].expire_time.seconds


async def test_fields_that_are_zero_are_shown_and_large_numbers_are_text(rooms: FakeRooms) -> None:
    rooms.payment.available["a"] = 2**60

    answer = await call(
        rooms, "GetBalance", {"account_id": "a"}, "turnpike.payment.v1.PaymentService"
    )

    assert str(2**60) == answer["balance"]["available_nusd"]
    assert "0" == answer["balance"]["held_nusd"]


async def test_camel_case_is_understood_too(rooms: FakeRooms) -> None:
    await call(rooms, "CreateKey", {"accountId": "x"})

    assert "x" == rooms.auth.requests[0].account_id


async def test_empty_body_is_the_empty_request(rooms: FakeRooms) -> None:
    assert {"keys": [], "next_page_token": ""} == await call(rooms, "ListKeys", b"")


async def refusal(rooms: FakeRooms, method: str, body: object) -> TurnpikeError:
    with pytest.raises(TurnpikeError) as caught:
        await call(rooms, method, body)
    return caught.value


async def test_refusal_keeps_its_reason_and_facts(rooms: FakeRooms) -> None:
    error = await refusal(rooms, "GetAccount", {"account_id": "nobody"})

    assert Reason.NOT_FOUND == error.reason
    assert {
        "code": "not_found",
        "message": "There is no such account.",
        "reason": "NOT_FOUND",
        "metadata": {"param": "account_id"},
    } == json.loads(error_json(error))


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000])
async def test_body_that_is_no_object_is_refused(rooms: FakeRooms, body: bytes) -> None:
    assert Reason.INVALID_JSON == (await refusal(rooms, "ListKeys", body)).reason


@pytest.mark.parametrize("body", [{"nothing": 1}, {"page_size": "many"}, {"page_size": 2**40}])
async def test_body_that_fits_no_message_is_refused(rooms: FakeRooms, body: object) -> None:
    assert Reason.INVALID_VALUE == (await refusal(rooms, "ListKeys", body)).reason


@pytest.mark.parametrize("method", ["Nothing", "../ListKeys", ""])
async def test_unknown_method_is_not_found(rooms: FakeRooms, method: str) -> None:
    assert Reason.NOT_FOUND == (await refusal(rooms, method, {})).reason


async def test_streams_cannot_be_called(rooms: FakeRooms) -> None:
    paths = [method.path for method in unary_methods("turnpike.router.v1.RouterService")]

    service = "/turnpike.router.v1.RouterService"
    assert [f"{service}/{name}" for name in ("ListModels", "EndRun", "ExplainRoute")] == paths


async def test_bug_of_a_servicer_shows_nothing_of_itself(rooms: FakeRooms) -> None:
    error = await refusal(rooms, "VerifyKey", {"key_digest": "AAAA"})

    assert Reason.INTERNAL == error.reason
    assert SECRET not in error.message
