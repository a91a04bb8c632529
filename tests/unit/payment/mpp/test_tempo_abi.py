"""Words of calls, answers and events, against eth-abi."""

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from services.payment.mpp import tempo_abi as abi
from services.payment.mpp.addresses import word
from services.payment.mpp.chain import OnChain
from services.payment.mpp.tempo_abi import Log
from tests.fakes.tempo_payer import (
    DESCRIPTOR,
    ESCROW,
    ChannelDescriptor,
    Terms,
    call_data,
    channel_id,
)

HEX20 = st.binary(min_size=20, max_size=20).map(lambda each: "0x" + each.hex())
HEX32 = st.binary(min_size=32, max_size=32).map(lambda each: "0x" + each.hex())
UINT96 = st.integers(0, 2**96 - 1)
DESCRIPTORS = st.builds(
    ChannelDescriptor,
    payer=HEX20,
    payee=HEX20,
    operator=HEX20,
    token=HEX20,
    salt=HEX32,
    authorized_signer=HEX20,
    expiring_nonce_hash=HEX32,
)
A, B, C = ("0x" + digit * 40 for digit in "abc")
ID = "0x" + "1f" * 32


def _topic(text: str) -> str:
    return "0x" + text[2:].rjust(64, "0")


def _log(kind: str, *topics: str, data: bytes = b"", address: str = ESCROW) -> Log:
    named = tuple(_topic(each) for each in topics)
    return Log(address, (kind, *named), data, tx_hash="0x" + "22" * 32, block_number=7)


@given(DESCRIPTORS, UINT96, UINT96, st.binary(max_size=99))
def test_calls_of_the_payee(
    channel: ChannelDescriptor, cumulative: int, capture: int, signature: bytes
) -> None:
    text = "0x" + signature.hex()

    settle = abi.settle_call(channel, cumulative=cumulative, signature=text)
    close = abi.close_call(channel, cumulative=cumulative, capture=capture, signature=text)

    named = channel.values()
    assert call_data(f"settle({DESCRIPTOR},uint96,bytes)", named, cumulative, signature) == settle
    signed = f"close({DESCRIPTOR},uint96,uint96,bytes)"
    assert call_data(signed, named, cumulative, capture, signature) == close


@given(DESCRIPTORS, UINT96, st.integers(1, 2**63))
def test_a_channel_is_named_by_its_top_up(
    channel: ChannelDescriptor, amount: int, chain_id: int
) -> None:
    data = call_data(f"topUp({DESCRIPTOR},uint96)", channel.values(), amount)

    named, read = abi.read_top_up_call(data)

    assert amount == read
    assert abi.descriptor_words(channel) == named
    expected = channel_id(channel, Terms(chain_id=chain_id))
    assert expected == abi.channel_id(named, escrow=ESCROW, chain_id=chain_id)


@given(HEX20, st.integers(0, 2**256 - 1))
def test_transfers_are_written_and_read(to: str, amount: int) -> None:
    data = abi.transfer_call(to=to, amount=amount)

    read = abi.read_transfer_call(data, token=A, sender=B)

    assert call_data("transfer(address,uint256)", to, amount) == data
    assert (A, B, to, amount, "") == (read.token, read.sender, read.to, read.amount, read.memo)


def test_state_of_a_channel() -> None:
    answer = encode(["uint96", "uint96", "uint32"], [5, 9, 7])

    assert OnChain(deposit=9, settled=5, close_requested_unix_s=7) == abi.read_channel_state(answer)
    assert abi.read_channel_state(bytes(96)) is None
    assert call_data("getChannelState(bytes32)", bytes.fromhex(ID[2:])) == abi.channel_state_call(
        ID
    )


def test_events_are_read() -> None:
    requested = abi.read_close_requested(_log(abi.CLOSE_REQUESTED, ID, A, B, data=word(900)))
    closed = abi.read_closed(_log(abi.CHANNEL_CLOSED, ID, A, B, data=word(3) + word(4)))

    assert (ID, A, B, 900, 7) == (
        requested.channel_id,
        requested.payer,
        requested.payee,
        requested.grace_end_unix_s,
        requested.block_number,
    )
    assert (ID, 3, 4) == (closed.channel_id, closed.settled_to_payee, closed.refunded_to_payer)


def test_transfer_with_a_memo_counts_once() -> None:
    amount, memo = word(5), "0x" + "ee" * 32
    plain = _log(abi.TRANSFERRED, A, B, data=amount, address=C)
    named = _log(abi.TRANSFERRED_MEMO, A, B, memo, data=amount, address=C)
    other = _log(abi.CHANNEL_CLOSED, ID, A, B)

    assert [""] == [each.memo for each in abi.read_transfers([plain, other])]
    assert ["", memo] == [each.memo for each in abi.read_transfers([plain, plain, named])]
    assert [memo] == [each.memo for each in abi.read_transfers([named])]
    assert [memo, memo] == [each.memo for each in abi.read_transfers([plain, named, plain, named])]


@pytest.mark.parametrize(
    "log",
    [
        _log(abi.CLOSE_REQUESTED, ID, A, B),
        _log(abi.CLOSE_REQUESTED, ID, A, data=word(1)),
        _log(abi.CHANNEL_CLOSED, ID, A, B, data=word(1)),
        _log(abi.CLOSE_REQUESTED, ID, ID, B, data=word(1)),
    ],
)
def test_events_of_another_form_are_refused(log: Log) -> None:
    with pytest.raises(ValueError, match=r"."):
        abi.read_close_requested(log)


@pytest.mark.parametrize("data", [b"", b"\x00" * 4, abi.OPEN, abi.OPEN + b"\xff" * 192])
def test_calls_of_another_form_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        abi.read_open_call(data)
    with pytest.raises(ValueError, match=r"."):
        abi.read_top_up_call(data)
    with pytest.raises(ValueError, match=r"."):
        abi.read_transfer_call(data, token=A, sender=B)


def test_reasons_of_reverts() -> None:
    said = keccak(b"Error(string)")[:4] + encode(["string"], ["Amount\nNot" + "g" * 99])

    assert "AmountNotIncreasing" == abi.revert_reason(keccak(b"AmountNotIncreasing()")[:4])
    assert "AmountNot" + "g" * 54 == abi.revert_reason(said)
    for empty in (b"", b"\x01\x02\x03\x04", said[:40]):
        assert "" == abi.revert_reason(empty)
