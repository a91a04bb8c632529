"""Payloads: the recorded ones, and the strict forms of amounts, hex, actions and types."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.payment.mpp.payloads import (
    AMOUNT_MAX,
    SIGNATURE_BYTES_MAX,
    TRANSACTION_BYTES_MAX,
    Close,
    Open,
    TopUp,
    TransferHash,
    TransferTransaction,
    Voucher,
    ZeroProof,
    read_amount,
    read_payload,
)
from services.payment.mpp.problems import PaymentError, Slug
from tests.unit.payment.mpp.vectors import CREDENTIALS, OPENS, PAYEE, PAYER, VECTORS

SESSION: dict[str, dict[str, Any]] = {
    name: row["decoded"]["payload"] for name, row in CREDENTIALS.items() if name != "charge_hash"
}
HASH = CREDENTIALS["charge_hash"]["decoded"]["payload"]
TYPES: dict[str, type[Any]] = {"open": Open, "voucher": Voucher, "topUp": TopUp, "close": Close}
ZERO = "0x" + "0" * 40


def refusal(payload: dict[str, Any], intent: str = "session") -> PaymentError:
    with pytest.raises(PaymentError) as refused:
        read_payload(intent, payload)
    return refused.value


def assert_invalid(payload: dict[str, Any], member: str, intent: str = "session") -> None:
    error = refusal(payload, intent)
    assert Slug.INVALID_PAYLOAD is error.slug
    assert f"`payload.{member}`" in error.message


@pytest.mark.parametrize("action", SESSION)
def test_a_recorded_action_is_read(action: str) -> None:
    payload = SESSION[action]

    read: Any = read_payload("session", payload)

    assert type(read) is TYPES[action]
    assert payload["channelId"] == read.channel_id
    assert payload["descriptor"] == read.descriptor.as_json()
    if action == "topUp":
        assert 500_000 == read.additional_deposit_base_units
    else:
        assert int(payload["cumulativeAmount"]) == read.cumulative_base_units
        assert payload["signature"] == "0x" + read.signature.hex()
    if action in ("open", "topUp"):
        assert payload["transaction"] == "0x" + read.transaction.hex()


def test_charges_are_read() -> None:
    signature = SESSION["voucher"]["signature"]
    raw = bytes.fromhex(signature[2:])

    assert TransferHash(HASH["hash"]) == read_payload("charge", HASH)
    assert ZeroProof(raw) == read_payload("charge", {"type": "proof", "signature": signature})
    assert TransferTransaction(raw) == read_payload(
        "charge", {"type": "transaction", "signature": signature}
    )


@pytest.mark.parametrize("action", SESSION)
def test_failure_22_uppercase_hex_is_read_as_the_same(action: str) -> None:
    def upper(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: upper(part) for name, part in value.items()}
        return "0x" + value[2:].upper() if value.startswith("0x") else value

    assert read_payload("session", SESSION[action]) == read_payload(
        "session", upper(SESSION[action])
    )


@pytest.mark.parametrize("text", ["0", "1", "75", "79228162514264337593543950335"])
def test_amounts_up_to_96_bits_are_taken(text: str) -> None:
    assert int(text) == read_amount(text)


AMOUNTS: list[object] = [
    *("", " ", "-1", "+1", "-0", "00", "01", "007", "1e3", "1E3", "1.0", "1,000", "1_000", "0x10"),
    *(" 1", "1 ", "1\n", "\uff11", "\u0661", "NaN", "Infinity", "None", "٣"),
    *(str(AMOUNT_MAX + 1), str(2**128), "9" * 5_000, 75, 75.0, True, None, [], {}),
]


@pytest.mark.parametrize("text", AMOUNTS, ids=lambda text: repr(text)[:20])
@pytest.mark.parametrize("action", SESSION)
def test_failure_22_amounts_of_another_form_are_refused(action: str, text: object) -> None:
    member = "additionalDeposit" if action == "topUp" else "cumulativeAmount"

    assert_invalid(SESSION[action] | {member: text}, member)


@given(st.integers(0, 2**100))
def test_an_amount_is_taken_in_one_spelling_only(amount: int) -> None:
    if amount <= AMOUNT_MAX:
        assert amount == read_amount(str(amount))
    else:
        with pytest.raises(ValueError, match="decimal"):
            read_amount(str(amount))
    with pytest.raises(ValueError, match="decimal"):
        read_amount(f"0{amount}")


HEX: list[object] = [
    *(
        "",
        "0x",
        "0x0",
        "1a",
        "0X1a",
        "0x1g",
        "0x" + "1a" * 31,
        "0x" + "1a" * 33,
        "0x" + "1a" * 32 + "\n",
    ),
    *("1a" * 32, None, 7, [], {}, True),
]


@pytest.mark.parametrize("text", HEX, ids=lambda text: repr(text)[:20])
def test_failure_22_hex_of_another_form_is_refused(text: object) -> None:
    for action, payload in SESSION.items():
        assert_invalid(payload | {"channelId": text}, "channelId")
        for member in payload["descriptor"]:
            spoilt = payload["descriptor"] | {member: text}
            assert_invalid(payload | {"descriptor": spoilt}, f"descriptor.{member}")
        if action == "open":
            assert_invalid(payload | {"authorizedSigner": text}, "authorizedSigner")
    assert_invalid(HASH | {"hash": text}, "hash", "charge")


@pytest.mark.parametrize("text", [None, 7, [], "", "0x", "0x0", "0x0g", "1a", b"1a"])
def test_signatures_and_transactions_are_hex(text: object) -> None:
    for action, payload in SESSION.items():
        members = {"signature", "transaction"} & set(payload)
        assert members, action
        for member in members:
            assert_invalid(payload | {member: text}, member)
    for kind in ("transaction", "proof"):
        assert_invalid({"type": kind, "signature": text}, "signature", "charge")


def test_signatures_and_transactions_have_a_limit() -> None:
    for member, bytes_max in (
        ("signature", SIGNATURE_BYTES_MAX),
        ("transaction", TRANSACTION_BYTES_MAX),
    ):
        largest = "0x" + "1a" * bytes_max

        assert read_payload("session", SESSION["open"] | {member: largest})
        assert_invalid(SESSION["open"] | {member: largest + "1a"}, member)


@pytest.mark.parametrize("action", SESSION)
def test_every_member_is_needed(action: str) -> None:
    payload = SESSION[action]

    for member in set(payload) - {"descriptor", "authorizedSigner"}:
        rest = {name: part for name, part in payload.items() if name != member}
        assert_invalid(rest, member)


@pytest.mark.parametrize("value", [None, 7, "x", [], True])
def test_a_descriptor_is_an_object(value: object) -> None:
    assert_invalid(SESSION["voucher"] | {"descriptor": value}, "descriptor")


@pytest.mark.parametrize("value", [None, 7, [], {}, "", "Open", "topup", "settle", "open "])
def test_an_unknown_action_or_type_is_refused(value: object) -> None:
    assert_invalid(SESSION["voucher"] | {"action": value}, "action")
    assert_invalid(SESSION["open"] | {"type": value}, "type")
    assert_invalid(SESSION["topUp"] | {"type": value}, "type")
    assert_invalid({"type": value, "hash": HASH["hash"]}, "type", "charge")


@pytest.mark.parametrize("action", SESSION)
def test_a_v1_session_is_told_what_to_use(action: str) -> None:
    legacy = VECTORS["voucher_v1_legacy"]
    payload = {
        "action": action,
        "type": "transaction",
        "transaction": SESSION["open"]["transaction"],
        "channelId": legacy["channelId"],
        "cumulativeAmount": legacy["cumulativeAmount"],
        "signature": legacy["signature"],
        "additionalDeposit": "1",
    }

    error = refusal(payload)

    assert Slug.VERIFICATION_FAILED is error.slug
    assert "v1 sessions are not taken; use the TIP-1034 reserve" in error.message


def test_an_open_that_names_another_signer_than_its_descriptor_is_refused() -> None:
    payload = SESSION["open"]
    zero = payload | {"descriptor": OPENS["zero_signer"]["descriptor"]}
    unnamed = {name: part for name, part in payload.items() if name != "authorizedSigner"}

    assert Slug.SIGNER_MISMATCH is refusal(payload | {"authorizedSigner": PAYEE["address"]}).slug
    assert Slug.SIGNER_MISMATCH is refusal(zero | {"authorizedSigner": PAYEE["address"]}).slug
    assert read_payload("session", zero | {"authorizedSigner": ZERO})
    assert read_payload("session", zero | {"authorizedSigner": PAYER["address"]})
    assert read_payload("session", payload) == read_payload("session", unnamed)


@pytest.mark.parametrize("intent", ["", "subscription", "Session", "charge "])
def test_another_intent_is_unsupported(intent: str) -> None:
    assert Slug.METHOD_UNSUPPORTED is refusal(SESSION["voucher"], intent).slug


def test_no_signature_or_transaction_is_in_a_repr() -> None:
    for payload in SESSION.values():
        shown = repr(read_payload("session", payload))
        for member in ("signature", "transaction"):
            if member in payload:
                assert payload[member][2:20] not in shown
                assert str(bytes.fromhex(payload[member][2:]))[2:12] not in shown
