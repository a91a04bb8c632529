"""Transactions read and signed here, against the vectors, pytempo and eth-account."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey
from eth_account import Account
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from services.payment.mpp import rlp, tempo_abi
from services.payment.mpp.tempo_transactions import (
    Call,
    Fees,
    Unsigned,
    account_address,
    raw_bytes,
    read_transaction,
    read_unsigned,
    sign,
    transaction_hash,
)
from tests.fakes.tempo_payer import DELEGATE_KEY, PAYEE, PAYEE_KEY, PAYER_KEY, TempoPayer

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a library that pytempo imports
    import pytempo

VECTORS = json.loads((Path(__file__).parents[3] / "vectors" / "mpp.json").read_text())
PAYER = Account.from_key(PAYER_KEY).address.lower()
EXPIRING = 2**256 - 1
NOTHING: list[rlp.Item] = [b""] * 8
UINT64 = st.integers(0, 2**64 - 1)
ADDRESSES = st.binary(min_size=20, max_size=20)


def _by_name(vector: dict[str, Any]) -> str:
    return str(vector["name"])


@pytest.mark.parametrize("vector", VECTORS["opens"], ids=_by_name)
def test_vector_of_an_opening(vector: dict[str, Any]) -> None:
    read = read_transaction(raw_bytes(vector["raw_transaction"]))

    (call,) = read.calls
    assert vector["descriptor"]["payer"] == read.sender == vector["recovered_from"]
    assert vector["descriptor"]["expiringNonceHash"] == read.expiring_nonce_hash
    assert vector["open_calldata"] == "0x" + call.data.hex()
    assert (42431, 0) == (read.chain_id, read.nonce)
    arguments = tempo_abi.read_open_call(call.data)
    assert int(vector["deposit"]) == arguments.deposit
    assert vector["descriptor"]["authorizedSigner"] == arguments.authorized_signer


@given(
    chain_id=UINT64,
    gas=st.integers(1, 2**64 - 1),
    nonce=UINT64,
    valid_before=st.none() | st.integers(1, 2**64 - 1),
    token=st.none() | ADDRESSES,
    calls=st.lists(st.tuples(ADDRESSES, UINT64, st.binary(max_size=99)), min_size=1, max_size=3),
)
def test_tempo_transactions_are_read_as_pytempo_writes_them(**fields: Any) -> None:
    calls = [pytempo.Call.create(to=to, value=v, data=data) for to, v, data in fields["calls"]]
    unsigned = pytempo.TempoTransaction.create(
        chain_id=fields["chain_id"] + 1,
        gas_limit=fields["gas"],
        nonce=fields["nonce"],
        valid_before=fields["valid_before"],
        fee_token=fields["token"],
        calls=tuple(calls),
    )
    signed = unsigned.sign(PAYER_KEY)
    raw = bytes(signed.encode())

    read = read_transaction(raw)

    assert PAYER == read.sender
    assert (fields["chain_id"] + 1, fields["nonce"]) == (read.chain_id, read.nonce)
    expected = [Call("0x" + to.hex(), value, data) for to, value, data in fields["calls"]]
    assert expected == list(read.calls)
    assert "0x" + signed.hash().hex() == transaction_hash(raw)
    nonce_hash = keccak(signed.encode_for_signing() + bytes.fromhex(PAYER[2:]))
    assert "0x" + nonce_hash.hex() == read.expiring_nonce_hash


def test_sponsored_transaction_is_named_without_the_sponsor() -> None:
    unsigned = pytempo.TempoTransaction.create(
        chain_id=42431,
        gas_limit=1,
        nonce_key=EXPIRING,
        awaiting_fee_payer=True,
        calls=(pytempo.Call.create(to="0x" + "22" * 20, data=b"call"),),
    ).sign(PAYER_KEY)
    sponsored = unsigned.sign(DELEGATE_KEY, for_fee_payer=True)

    read = read_transaction(bytes(sponsored.encode()))

    assert PAYER == read.sender
    nonce_hash = keccak(unsigned.encode_for_signing() + bytes.fromhex(PAYER[2:]))
    assert "0x" + nonce_hash.hex() == read.expiring_nonce_hash


def test_access_key_acts_for_the_account_that_its_signature_names() -> None:
    transaction = pytempo.TempoTransaction.create(
        chain_id=42431, gas_limit=1, calls=(pytempo.Call.create(to="0x" + "22" * 20),)
    ).sign_access_key(DELEGATE_KEY, PAYER)

    read = read_transaction(bytes(transaction.encode()))

    assert PAYER == read.sender


@given(
    key=st.sampled_from([PAYER_KEY, PAYEE_KEY, DELEGATE_KEY]),
    nonce=UINT64,
    data=st.binary(max_size=99),
    fee=st.integers(1, 2**64 - 1),
)
def test_signed_transactions_are_byte_for_byte_those_of_eth_account(
    key: str, nonce: int, data: bytes, fee: int
) -> None:
    unsigned = Unsigned(
        chain_id=42431,
        nonce=nonce,
        to=PAYEE,
        data=data,
        fees=Fees(gas=21_000, fee_per_gas=fee, tip_per_gas=fee // 2),
    )

    raw = sign(unsigned, PrivateKey(bytes.fromhex(key[2:])))

    expected = Account.sign_transaction(
        {
            "type": 2,
            "chainId": 42431,
            "nonce": nonce,
            "to": Account.from_key(PAYEE_KEY).address,
            "value": 0,
            "data": data,
            "gas": 21_000,
            "maxFeePerGas": fee,
            "maxPriorityFeePerGas": fee // 2,
        },
        key,
    )
    assert bytes(expected.raw_transaction) == raw
    assert "0x" + bytes(expected.hash).hex() == transaction_hash(raw)
    assert unsigned == read_unsigned(raw)
    assert Account.from_key(key).address.lower() == read_transaction(raw).sender


def test_address_of_a_key() -> None:
    key = PrivateKey(bytes.fromhex(PAYEE_KEY[2:]))

    assert PAYEE == account_address(key.public_key)


@pytest.mark.parametrize(
    "text", ["", "76", "0x", "0x7", "0xzz", "0x00 00", "0x00\n", "0x" + "00" * 131_073]
)
def test_hex_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="hex"):
        raw_bytes(text)


def _fee_type(parity: bytes, r: bytes) -> bytes:
    return b"\x02" + rlp.encode([*NOTHING, [], parity, r, b"\x01"])


def _changed(at: int, item: rlp.Item) -> bytes:
    raw = raw_bytes(TempoPayer().transfer(1))
    fields = rlp.as_list(rlp.decode(raw[1:]))
    fields[at] = item
    return raw[:1] + rlp.encode(fields)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x01\xc0",
        b"\x76\x80",
        b"\x76\xc0",
        b"\x02\xc0",
        b"\x76" + rlp.encode([*NOTHING, *NOTHING[:5]]),
        _changed(0, b"\x00\x01"),
        _changed(4, []),
        _changed(4, b"call"),
        _changed(4, [[b"\x22" * 19, b"", b""]]),
        _changed(4, [[b"\x22" * 20, b""]]),
        _changed(4, [[b"\x22" * 20, [], b""]]),
        _changed(-1, b""),
        _changed(-1, b"\x01" + b"\x11" * 129),
        _changed(-1, b"\x00" * 65),
        _changed(-1, b"\x11" * 32 + b"\xff" * 32 + b"\x1b"),
        _changed(-1, b"\x11" * 64 + b"\x05"),
        _fee_type(b"\x02", b"\x01"),
        _fee_type(b"", b"\x01" * 33),
    ],
    ids=range(19),
)
def test_damaged_transactions_are_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_transaction(raw)


def test_only_type_2_is_read_as_one_of_ours() -> None:
    with pytest.raises(ValueError, match="0x02"):
        read_unsigned(raw_bytes(TempoPayer().transfer(1)))


@given(st.binary(max_size=300))
def test_garbage_is_refused_and_nothing_else(tail: bytes) -> None:
    for kind in (b"", b"\x76", b"\x02"):
        with pytest.raises(ValueError, match=r"."):
            read_transaction(kind + tail)
