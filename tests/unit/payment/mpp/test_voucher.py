"""Channel ids, digests and the verdict on every recorded voucher and its mutants."""

from dataclasses import replace
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from services.payment.mpp.payloads import AMOUNT_MAX, Descriptor, read_payload
from services.payment.mpp.problems import PaymentError, Slug
from services.payment.mpp.voucher import (
    RESERVE,
    channel_id,
    check_voucher,
    domain_separator,
    struct_hash,
    voucher_digest,
)
from tests.unit.payment.mpp import vectors
from tests.unit.payment.mpp.vectors import CHAIN_ID, OPENS, VECTORS, VOUCHERS

MUTANTS = [(name, mutant) for name in VOUCHERS for mutant in VOUCHERS[name]["variants"]]
DOMAIN = domain_separator(RESERVE, CHAIN_ID)
CUSTOM = VECTORS["voucher_v2_custom_escrow"]
LEGACY = VECTORS["voucher_v1_legacy"]


def descriptor(members: dict[str, str]) -> Descriptor:
    return Descriptor(
        payer=members["payer"],
        payee=members["payee"],
        operator=members["operator"],
        token=members["token"],
        salt=members["salt"],
        authorized_signer=members["authorizedSigner"],
        expiring_nonce_hash=members["expiringNonceHash"],
    )


def raw(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def is_accepted(row: dict[str, Any], signature: str, **changes: Any) -> bool:
    terms = {
        "domain": DOMAIN,
        "channel": row["channelId"],
        "cumulative_base_units": int(row["cumulativeAmount"]),
        "signer": row["signer"],
    }
    try:
        check_voucher(raw(signature), **(terms | changes))
    except PaymentError as error:
        refusal = error
    else:
        return True
    assert Slug.INVALID_SIGNATURE is refusal.slug
    assert (signature[2:20] or "0x") not in str(refusal)
    return False


def test_the_reserve_is_the_canonical_one() -> None:
    assert vectors.RESERVE == RESERVE


@pytest.mark.parametrize("name", OPENS)
def test_channel_id_of_a_recorded_open(name: str) -> None:
    row = OPENS[name]

    assert row["channelId"] == channel_id(descriptor(row["descriptor"]), RESERVE, CHAIN_ID)
    assert row["descriptor"] == descriptor(row["descriptor"]).as_json()


@pytest.mark.parametrize("name", OPENS)
def test_expiring_nonce_hash_of_a_recorded_open(name: str) -> None:
    row = OPENS[name]

    found = keccak(raw(row["signing_payload"]) + raw(row["recovered_from"]))
    assert row["descriptor"]["expiringNonceHash"] == "0x" + found.hex()


@pytest.mark.parametrize("part", [*OPENS["self_signed"]["descriptor"], "escrow", "chain"])
def test_failure_22_every_part_of_a_channel_is_in_its_id(part: str) -> None:
    row = OPENS["delegate_with_operator"]
    members = dict(row["descriptor"])
    if part in members:
        members[part] = members[part][:-1] + ("0" if members[part][-1] != "0" else "1")
    escrow = CUSTOM["escrow"] if part == "escrow" else RESERVE
    chain_id = 4217 if part == "chain" else CHAIN_ID

    assert row["channelId"] != channel_id(descriptor(members), escrow, chain_id)


@pytest.mark.parametrize("name", VOUCHERS)
def test_hashes_of_a_recorded_voucher(name: str) -> None:
    row = VOUCHERS[name]
    amount = int(row["cumulativeAmount"])

    assert row["domain_separator"] == "0x" + DOMAIN.hex()
    assert row["struct_hash"] == "0x" + struct_hash(row["channelId"], amount).hex()
    assert row["digest"] == "0x" + voucher_digest(DOMAIN, row["channelId"], amount).hex()


@pytest.mark.parametrize("name", VOUCHERS)
def test_a_recorded_voucher_is_accepted(name: str) -> None:
    row = VOUCHERS[name]

    assert row["turnpike_must_accept"]["canonical"] is True
    assert is_accepted(row, row["signature"])
    assert is_accepted(row, row["signature"], signer=row["signer"].upper().replace("0X", "0x"))


@pytest.mark.parametrize(("name", "mutant"), MUTANTS)
def test_failure_22_a_recorded_mutant_gets_its_verdict(name: str, mutant: str) -> None:
    row = VOUCHERS[name]

    assert row["turnpike_must_accept"][mutant] is is_accepted(row, row["variants"][mutant])


@pytest.mark.parametrize("name", VOUCHERS)
@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("key", {"signer": vectors.PAYEE["address"]}),
        ("amount", {"cumulative_base_units": 76}),
        ("channel", {"channel": CUSTOM["channelId"]}),
        ("chain", {"domain": domain_separator(RESERVE, 4217)}),
        ("escrow", {"domain": domain_separator(CUSTOM["escrow"], CHAIN_ID)}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_failure_22_a_voucher_for_something_else_is_refused(
    name: str, what: str, changes: dict[str, Any]
) -> None:
    row = VOUCHERS[name]

    assert not is_accepted(row, row["signature"], **changes), what


@pytest.mark.parametrize("name", VOUCHERS)
def test_failure_22_64_or_66_bytes_are_refused(name: str) -> None:
    row = VOUCHERS[name]

    assert not is_accepted(row, row["signature"][:-2])
    assert not is_accepted(row, row["signature"] + "00")
    assert not is_accepted(row, "0x")


def test_a_voucher_of_another_escrow_has_another_domain() -> None:
    escrow, amount = CUSTOM["escrow"], int(CUSTOM["cumulativeAmount"])
    domain = domain_separator(escrow, CHAIN_ID)

    assert CUSTOM["channelId"] == channel_id(descriptor(CUSTOM["descriptor"]), escrow, CHAIN_ID)
    assert CUSTOM["digest"] == "0x" + voucher_digest(domain, CUSTOM["channelId"], amount).hex()
    assert is_accepted(CUSTOM, CUSTOM["signature"], domain=domain)
    assert not is_accepted(CUSTOM, CUSTOM["signature"])


def test_a_v1_voucher_is_no_voucher_of_the_reserve() -> None:
    assert not is_accepted(LEGACY, LEGACY["signature"])
    assert not is_accepted(
        LEGACY, LEGACY["signature"], domain=domain_separator(LEGACY["escrow"], CHAIN_ID)
    )


def test_failure_23_garbage_signature_is_refused_whatever_the_amount() -> None:
    row = VOUCHERS["self_signed-75"]
    garbage = "0x" + "5a" * 64 + "1b"

    for amount in (0, 74, 75, 76):
        assert not is_accepted(row, garbage, cumulative_base_units=amount)


@pytest.mark.parametrize("name", ["open", "voucher", "close"])
def test_a_recorded_credential_carries_a_voucher_of_its_channel(name: str) -> None:
    payload: Any = read_payload("session", vectors.CREDENTIALS[name]["decoded"]["payload"])

    assert payload.channel_id == channel_id(payload.descriptor, RESERVE, CHAIN_ID)
    check_voucher(
        payload.signature,
        domain=DOMAIN,
        channel=payload.channel_id,
        cumulative_base_units=payload.cumulative_base_units,
        signer=payload.descriptor.signer,
    )


def test_the_payer_signs_where_no_signer_is_named() -> None:
    zero = descriptor(OPENS["zero_signer"]["descriptor"])

    assert zero.payer == zero.signer
    assert (
        vectors.DELEGATE["address"]
        == replace(zero, authorized_signer=vectors.DELEGATE["address"]).signer
    )


@given(
    st.integers(0, AMOUNT_MAX),
    st.integers(0, 2**53 - 1),
    st.binary(min_size=20, max_size=20),
    st.binary(min_size=32, max_size=32),
)
def test_eth_account_signs_the_same_digest(
    amount: int, chain_id: int, escrow: bytes, channel: bytes
) -> None:
    contract, channel_text = "0x" + escrow.hex(), "0x" + channel.hex()
    message = encode_typed_data(
        {
            "name": "TIP20 Channel Reserve",
            "version": "1",
            "chainId": chain_id,
            "verifyingContract": contract,
        },
        {
            "Voucher": [
                {"name": "channelId", "type": "bytes32"},
                {"name": "cumulativeAmount", "type": "uint96"},
            ]
        },
        {"channelId": channel, "cumulativeAmount": amount},
    )
    made = Account.sign_message(message, vectors.PAYER["private_key"])
    domain = domain_separator(contract, chain_id)

    assert message.header == domain
    assert message.body == struct_hash(channel_text, amount)
    assert made.message_hash == voucher_digest(domain, channel_text, amount)
    check_voucher(
        bytes(made.signature),
        domain=domain,
        channel=channel_text,
        cumulative_base_units=amount,
        signer=vectors.PAYER["address"],
    )
