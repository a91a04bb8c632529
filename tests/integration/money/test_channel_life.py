"""One channel from its first request to its close: HTTP, gateway, router, payment and chain."""

from itertools import pairwise

from tests.fakes.tempo_chain import FEE_UNITS, FUNDS
from tests.fixtures.catalogues import chat, price_nusd
from tests.fixtures.paid import NUSD_PER_BASE_UNIT, OpenPaid

SMALL_STEPS = {"deposit_min_base_units": 1}
"""Deposits that a test can use up."""


async def test_failure_34_channel_opens_streams_on_vouchers_tops_up_and_closes_for_what_it_spent(
    open_paid: OpenPaid,
) -> None:
    paid = await open_paid(mpp=SMALL_STEPS, slice_tokens=8)
    client = paid.client(1, deposit=60)

    answer = await client.chat(
        chat("shape=c120-d5", stream=True, max_tokens=200, stream_options={"include_usage": True})
    )

    assert 200 == answer.status, answer.body
    assert answer.is_whole, answer.events
    assert "".join(f"tok{index} " for index in range(120)) == answer.text
    required = [int(need["requiredCumulative"]) for need in answer.needs]
    assert 3 <= len(required)
    assert all(below < above for below, above in pairwise(required))
    assert 60 == int(answer.needs[0]["deposit"]) < client.deposit
    (record,) = await paid.settled(client, 1)
    chunks = [data for _, data in answer.events if data != "[DONE]"]
    usage = next(chunk["usage"] for chunk in chunks if chunk.get("usage"))
    price = price_nusd(usage["prompt_tokens"], usage["completion_tokens"])
    assert price == record.charge_nusd
    spent = -(-price // NUSD_PER_BASE_UNIT)
    assert answer.receipt is not None
    assert str(spent) == answer.receipt["spent"]
    assert ("", "[DONE]") == answer.events[-1]
    assert "payment-receipt" == answer.events[-2][0]

    closed = await client.close()

    assert 204 == closed.status, closed.body
    assert closed.receipt is not None
    assert str(spent) == closed.receipt["spent"]
    assert spent == paid.earned
    fees = 2 * FEE_UNITS
    assert FUNDS - spent - fees == paid.chain.balance(client.payer.address)
    assert {} == paid.chain.world.channels
    verified = await paid.verified()
    assert verified.is_clean, verified.findings


async def test_channel_buys_plain_answers_and_streams_until_it_closes(open_paid: OpenPaid) -> None:
    paid = await open_paid(slice_tokens=16)
    client = paid.client(2)
    bodies = [
        chat(f"shape=c{3 + number}-d0", stream=number % 2 == 0, max_tokens=64)
        for number in range(12)
    ]

    answers = [await client.chat(body) for body in bodies]

    assert [200] * 12 == [answer.status for answer in answers]
    records = await paid.settled(client, 12)
    spent = -(-sum(record.charge_nusd for record in records) // NUSD_PER_BASE_UNIT)
    receipts = [answer.receipt for answer in answers]
    assert all(receipts)
    told = [int(receipt["spent"]) for receipt in receipts if receipt]
    assert sorted(told) == told
    assert spent == told[-1]
    closed = await client.close(spent)
    assert 204 == closed.status, closed.body
    assert spent == paid.earned
    verified = await paid.verified()
    assert verified.is_clean, verified.findings


async def test_close_below_what_was_spent_is_told_what_is_due(open_paid: OpenPaid) -> None:
    paid = await open_paid()
    client = paid.client(3)
    await client.chat(chat("shape=c40-d0", max_tokens=64))
    (record,) = await paid.settled(client, 1)
    spent = -(-record.charge_nusd // NUSD_PER_BASE_UNIT)
    assert client.last is not None

    refused = await client.manage(client.closes(client.last, spent - 1))

    assert 402 == refused.status
    assert str(spent) == refused.json["requiredCumulative"]
    closed = await client.close(spent)
    assert 204 == closed.status, closed.body
    assert spent == paid.earned
    fresh = await client.met(chat())
    gone = await client.send(chat(), client.pays(fresh, client.cumulative + 10))
    assert 410 == gone.status
    assert "Payment-Receipt" not in gone.headers
