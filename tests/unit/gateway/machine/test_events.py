"""Rows T2 and T4: the form of payment events, against the recorded verdicts of a payment client."""

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletionChunk

from gateway.machine.events import (
    before_last,
    chunk_members,
    need_voucher,
    receipt,
    text_members,
)
from gateway.openai.answer import DONE
from turnpike.payment.v1 import machine_pb2

NEED = machine_pb2.NeedVoucher(
    channel_id="0xc4", required_cumulative="250025", accepted_cumulative="9", deposit="500000"
)
RECEIPT = {"challengeId": "ch", "method": "tempo", "status": "success", "spent": "7", "units": 20}


def parsed(event: bytes) -> tuple[str, Any]:
    name, data, end, rest = event.decode().split("\n")
    assert ("", "") == (end, rest)
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def test_t2_need_voucher_has_the_seeds_fields_and_the_deposit() -> None:
    name, data = parsed(need_voucher(NEED, chunk_members("chatcmpl-1", 5, "acme/small")))

    assert "payment-need-voucher" == name
    assert {
        "channelId": "0xc4",
        "requiredCumulative": "250025",
        "acceptedCumulative": "9",
        "deposit": "500000",
    }.items() <= data.items()


def test_t4_receipt_has_all_that_payment_said() -> None:
    name, data = parsed(receipt(json.dumps(RECEIPT), chunk_members("chatcmpl-1", 5, "acme/small")))

    assert "payment-receipt" == name
    assert RECEIPT.items() <= data.items()


def test_event_is_a_chunk_that_says_nothing() -> None:
    _, data = parsed(need_voucher(NEED, chunk_members("chatcmpl-1", 5, "acme/small")))

    chunk = ChatCompletionChunk.model_validate(data)
    assert ("chatcmpl-1", 5, "acme/small") == (chunk.id, chunk.created, chunk.model)
    assert chunk.choices[0].delta.content is None
    assert chunk.choices[0].finish_reason is None


def test_event_among_text_chunks_has_no_text() -> None:
    _, data = parsed(need_voucher(NEED, text_members("cmpl-1", 5, "acme/small")))

    assert ("text_completion", "") == (data["object"], data["choices"][0]["text"])


def test_event_names_its_type_for_apis_that_go_by_it() -> None:
    _, data = parsed(need_voucher(NEED, {}))

    assert "payment-need-voucher" == data["type"]


@pytest.mark.parametrize(
    ("events", "last"),
    [
        (b'data: {"a":1}\n\n' + DONE, DONE),
        (DONE, DONE),
        (b"event: a\ndata: 1\n\nevent: b\ndata: 2\n\n", b"event: b\ndata: 2\n\n"),
        (b"event: b\ndata: 2\n\n", b"event: b\ndata: 2\n\n"),
    ],
)
def test_receipt_goes_before_the_last_event(events: bytes, last: bytes) -> None:
    assert last == events[before_last(events) :]
