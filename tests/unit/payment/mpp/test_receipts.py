"""Receipts, byte for byte as recorded, and as an event."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.payment.mpp.encoding import encode_base64url, encode_object, read_time
from services.payment.mpp.receipts import ChargeReceipt, SessionReceipt, read_receipt
from tests.unit.payment.mpp.vectors import RECEIPTS, VECTORS

DELIVERY, CLOSE, CHARGE = RECEIPTS
FRAMES = {row["name"]: row for row in VECTORS["sse"]}


def session_receipt(members: dict[str, Any]) -> SessionReceipt:
    return SessionReceipt(
        challenge_id=members["challengeId"],
        channel_id=members["channelId"],
        accepted_base_units=int(members["acceptedCumulative"]),
        spent_base_units=int(members["spent"]),
        timestamp_unix_s=read_time(members["timestamp"]),
        unit_count=members.get("units"),
        transaction_hash=members.get("txHash", ""),
    )


@pytest.mark.parametrize("row", [DELIVERY, CLOSE], ids=["delivery", "close"])
def test_a_recorded_session_receipt_is_written(row: dict[str, Any]) -> None:
    receipt = session_receipt(row["decoded"])

    assert row["payment_receipt"] == receipt.as_header()
    assert row["decoded"] == json.loads(receipt.as_json()) == read_receipt(receipt.as_header())


def test_a_recorded_charge_receipt_is_written() -> None:
    decoded = CHARGE["decoded"]
    receipt = ChargeReceipt(
        challenge_id="",
        reference=decoded["reference"],
        timestamp_unix_s=read_time(decoded["timestamp"]),
    )

    assert CHARGE["payment_receipt"] == receipt.as_header()
    assert decoded == json.loads(receipt.as_json())


def test_the_event_is_the_recorded_one_with_every_member() -> None:
    receipt = session_receipt(DELIVERY["decoded"])

    frame = f"event: payment-receipt\ndata: {receipt.as_json()}\n\n"

    assert FRAMES["receipt_full"]["frame"] == frame
    assert set(FRAMES["receipt_full"]["mppx_parse"]["data"]) == set(json.loads(receipt.as_json()))


def test_a_charge_receipt_names_challenge_and_external_id() -> None:
    receipt = ChargeReceipt(
        challenge_id="c", reference="0x1", timestamp_unix_s=0, method="stripe", external_id="order"
    )

    assert {
        "method": "stripe",
        "status": "success",
        "timestamp": "1970-01-01T00:00:00Z",
        "reference": "0x1",
        "challengeId": "c",
        "externalId": "order",
    } == json.loads(receipt.as_json())


def test_no_units_are_told_apart_from_zero_units() -> None:
    members = DELIVERY["decoded"]

    assert 0 == json.loads(session_receipt(members | {"units": 0}).as_json())["units"]
    assert "units" not in json.loads(session_receipt(members | {"units": None}).as_json())


@given(st.integers(0, 2**96 - 1), st.integers(0, 2**96 - 1), st.integers(0, 4_000_000_000))
def test_amounts_are_decimal_strings(accepted: int, spent: int, unix_s: int) -> None:
    receipt = SessionReceipt("c", "0xa", accepted, spent, unix_s)
    members = json.loads(receipt.as_json())

    assert (str(accepted), str(spent)) == (members["acceptedCumulative"], members["spent"])
    assert members == read_receipt(receipt.as_header())


@pytest.mark.parametrize(
    "value",
    [
        "",
        "%",
        encode_base64url(b"[]"),
        encode_object({}),
        encode_object(CHARGE["decoded"] | {"status": "failed"}),
        encode_object(CHARGE["decoded"] | {"reference": 7}),
        encode_object(CHARGE["decoded"] | {"timestamp": "today"}),
        encode_object({key: text for key, text in CHARGE["decoded"].items() if key != "method"}),
    ],
)
def test_what_is_no_receipt_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_receipt(value)
