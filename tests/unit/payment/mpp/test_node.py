"""Answers of a node: what is read, and what counts as no answer."""

from typing import Any

import pytest

from services.payment.mpp.chain import ChainError, ChainFault
from services.payment.mpp.node import (
    LOGS_MAX,
    read_data,
    read_logs,
    read_quantity,
    read_receipt,
    read_refusal,
)

HASH, OTHER = "0x" + "1a" * 32, "0x" + "2b" * 32
LOG = {
    "address": "0x" + "AB" * 20,
    "topics": [HASH],
    "data": "0x01ff",
    "transactionHash": HASH,
    "blockNumber": "0x10",
}
RECEIPT = {"status": "0x1", "transactionHash": HASH, "blockNumber": "0x10", "logs": [LOG]}


def test_receipt_is_read() -> None:
    receipt = read_receipt(RECEIPT)

    assert receipt is not None
    assert (HASH, 16, True) == (receipt.tx_hash, receipt.block_number, receipt.is_success)
    (log,) = receipt.logs
    assert ("0x" + "ab" * 20, (HASH,), b"\x01\xff") == (log.address, log.topics, log.data)
    assert read_receipt(None) is None
    failed = read_receipt({**RECEIPT, "status": "0x0"})
    assert failed is not None
    assert not failed.is_success


def test_events_of_a_dropped_block_are_left_out() -> None:
    assert 1 == len(
        read_logs(
            [
                LOG,
                {**LOG, "removed": True},
            ]
        )
    )


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        "0x1",
        {**RECEIPT, "status": None},
        {**RECEIPT, "status": 1},
        {**RECEIPT, "transactionHash": "0x1a"},
        {**RECEIPT, "blockNumber": "10"},
        {**RECEIPT, "logs": None},
        {**RECEIPT, "logs": [[]]},
        {**RECEIPT, "logs": [{**LOG, "data": "0x1"}]},
        {**RECEIPT, "logs": [{**LOG, "topics": ["0x1"]}]},
        {**RECEIPT, "logs": [{**LOG, "address": HASH}]},
    ],
    ids=range(12),
)
def test_receipt_of_another_form_says_nothing(answer: Any) -> None:
    with pytest.raises(ChainError) as caught:
        read_receipt(answer)

    assert ChainFault.UNAVAILABLE == caught.value.fault


@pytest.mark.parametrize("answer", [None, 1, "", "0x", "1", "0xg", "-0x1", "0x" + "1" * 65])
def test_number_of_another_form_says_nothing(answer: Any) -> None:
    with pytest.raises(ChainError):
        read_quantity(answer)


def test_bytes_are_read() -> None:
    assert b"" == read_data("0x")
    assert b"\xab" == read_data("0xAB")
    with pytest.raises(ChainError):
        read_data("0xa")


def test_more_events_than_are_read_say_nothing() -> None:
    with pytest.raises(ChainError, match="10000"):
        read_logs([LOG] * (LOGS_MAX + 1))


@pytest.mark.parametrize(
    ("error", "code", "revert"),
    [
        ({"code": 3, "data": "0x"}, 3, ""),
        ({"code": -32000, "message": "nonce too low"}, -32000, ""),
        ({"code": 3, "data": {"data": "0x"}}, 3, ""),
        ({"code": "3"}, 0, ""),
        ({"code": 3, "data": 5}, 3, ""),
        ("no", 0, ""),
    ],
)
def test_refusal_keeps_a_code_and_no_words(error: Any, code: int, revert: str) -> None:
    refusal = read_refusal(error)

    assert (code, revert) == (refusal.code, refusal.revert)
    assert "nonce" not in str(refusal)
