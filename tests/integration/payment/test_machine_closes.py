"""Settling and closing: rows 32 to 34 of the list of failures, and what charges leave over."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from sqlalchemy import Connection, select

from services.payment.mpp.receipts import read_receipt
from services.payment.mpp.tables import chain_cursors
from tests.fakes.tempo_payer import PAYEE, Opening
from tests.integration.payment.till import Till, challenges_of, open_till
from turnpike.events.v1.events_pb2 import ChannelChanged
from turnpike.payment.v1 import machine_pb2 as pb


@pytest.fixture
async def till(database_url: str) -> AsyncIterator[Till]:
    async with open_till(database_url) as opened:
        yield opened


@pytest.fixture
async def small(sqlite_url: str) -> AsyncIterator[Till]:
    async with open_till(sqlite_url) as opened:
        yield opened


async def _becomes(probe: Callable[[], Awaitable[object]], expected: object) -> None:
    try:
        async with asyncio.timeout(15):
            while await probe() != expected:
                await asyncio.sleep(0.01)
    except TimeoutError:
        assert expected == await probe()


def _states(till: Till, opening: Opening) -> Callable[[], Awaitable[object]]:
    async def state() -> object:
        return str((await till.channel(opening.channel_id)).state)

    return state


async def _used(till: Till, spent_nusd: int, *, first: int = 9_000) -> Opening:
    """Return a channel of which something is spent and posted."""
    opening, admitted = await till.opened(50_000, first=first)
    await till.run(admitted, spent_nusd, run_id=f"run-{opening.channel_id}")
    return opening


async def _close(till: Till, opening: Opening, cumulative: int) -> pb.ManageResponse:
    return await till.manage(till.close_of(opening, await till.challenge(), cumulative))


async def test_failure_33_close_below_what_was_spent_is_told_the_amount_and_then_taken(
    till: Till,
) -> None:
    opening = await _used(till, 4_321_001)

    low = await _close(till, opening, 4_321)
    exact = await _close(till, opening, 4_322)

    assert (402, "verification-failed") == (low.refusal.http_status, low.refusal.problem)
    details = challenges_of(low.refusal)[0].request["methodDetails"]
    assert isinstance(details, dict)
    assert "4322" == details["sessionSnapshot"]["spent"]
    receipt = read_receipt(exact.receipt)
    assert ("4322", "4322") == (receipt["acceptedCumulative"], receipt["spent"])
    assert await till.is_proven()


async def test_failure_33_close_during_a_stream_ends_it_and_waits_for_its_charge(
    till: Till,
) -> None:
    opening, admitted = await till.opened(50_000, first=5_000)
    credential = till.close_of(opening, await till.challenge(), 5_000)

    async with till.bus.subscribe("payment.channel.v1") as messages, asyncio.TaskGroup() as group:
        closing = group.create_task(till.manage(credential))
        async for data in messages:
            change = ChannelChanged.FromString(data)
            if change.is_closed:
                break
        refused = await till.extend(admitted, 5_500_000)
        await till.conclude(admitted, 2_000_000)
        is_early = closing.done()
        await till.settle(admitted, 2_000_000)

    assert opening.channel_id == change.channel_id
    assert 410 == refused.refusal.http_status
    assert not is_early
    assert "2000" == read_receipt(closing.result().receipt)["spent"]
    assert await till.is_proven()


async def test_failure_33_close_that_waits_too_long_is_taken_back(small: Till) -> None:
    opening, admitted = await small.opened(50_000, first=5_000)
    credential = small.close_of(opening, await small.challenge(), 5_000)

    async with asyncio.TaskGroup() as group:
        closing = group.create_task(small.manage(credential))
        await _becomes(_states(small, opening), "closing")
        small.rig.clock.advance(3)

    assert 503 == closing.result().refusal.http_status
    assert "open" == await _states(small, opening)()
    await small.run(admitted, 1_000_000, run_id="run")
    assert (await _close(small, opening, 5_000)).receipt


async def test_failure_33_close_twice_gives_the_same_receipt_and_another_one_is_gone(
    till: Till,
) -> None:
    opening = await _used(till, 3_000_000)

    first, again = await _close(till, opening, 9_000), await _close(till, opening, 9_000)
    other = await _close(till, opening, 8_000)

    assert read_receipt(first.receipt)["txHash"] == read_receipt(again.receipt)["txHash"]
    assert (410, "session/channel-finalized") == (other.refusal.http_status, other.refusal.problem)
    assert [("close", "done")] == await till.intents()


async def test_failure_33_closes_in_parallel_close_once(till: Till) -> None:
    opening = await _used(till, 3_000_000)
    credential = till.close_of(opening, await till.challenge(), 9_000)

    answers = await asyncio.gather(*(till.manage(credential) for _ in range(4)))
    final = await till.manage(credential)

    assert any(answer.receipt for answer in answers)
    assert final.receipt
    assert [("close", "done")] == [each for each in await till.intents() if each[1] == "done"]
    assert await till.is_proven()


async def test_failure_33_close_that_reverts_keeps_the_voucher_and_can_be_repeated(
    till: Till,
) -> None:
    opening = await _used(till, 3_000_000)
    till.node.faults.reverts = 1

    failed = await _close(till, opening, 9_000)
    state = await _states(till, opening)()
    repeated = await _close(till, opening, 9_000)

    assert 503 == failed.refusal.http_status
    assert "open" == state
    assert 9_000 == (await till.channel(opening.channel_id)).accepted
    assert "3000" == read_receipt(repeated.receipt)["spent"]
    assert await till.is_proven()


async def test_failure_33_close_whose_receipt_is_missing_is_finished_by_a_later_round(
    till: Till,
) -> None:
    before = till.node.balance(PAYEE)
    opening = await _used(till, 3_000_000)
    till.node.faults.hides_receipts = True

    waits = await _close(till, opening, 9_000)
    state = await _states(till, opening)()
    till.node.faults.hides_receipts = False
    till.rig.clock.advance(60)

    assert 503 == waits.refusal.http_status
    assert "closing" == state
    await _becomes(_states(till, opening), "closed")
    assert 3_000 == till.node.balance(PAYEE) - before
    assert await till.is_proven()


async def test_failure_34_payee_gets_what_was_spent_and_payer_the_rest(till: Till) -> None:
    payee, payer = till.node.balance(PAYEE), till.node.balance(till.payer.address)
    opening, admitted = await till.opened(50_000, first=9_000)
    fees = payer - 50_000 - till.node.balance(till.payer.address)
    await till.run(admitted, 4_321_001, run_id="run")

    await _close(till, opening, 9_000)

    assert 4_322 == till.node.balance(PAYEE) - payee
    assert 4_322 == payer - fees - till.node.balance(till.payer.address)


async def test_settles_what_is_owed_for_long_by_a_voucher_within_what_was_spent(
    till: Till,
) -> None:
    before = till.node.balance(PAYEE)
    opening, admitted = await till.opened(50_000, first=5_000)
    await till.manage(till.voucher_of(opening, await till.challenge(), 7_000))
    await till.manage(till.voucher_of(opening, await till.challenge(), 9_000))
    await till.extend(admitted, 9_000_000)
    await till.run(admitted, 8_000_000, run_id="run")

    till.rig.clock.advance(7 * 3600)

    async def settled() -> object:
        return (await till.channel(opening.channel_id)).settled

    await _becomes(settled, 7_000)
    assert 7_000 == till.node.balance(PAYEE) - before
    assert await till.is_proven()
    await _close(till, opening, 9_000)
    assert 8_000 == till.node.balance(PAYEE) - before
    assert await till.is_proven()


async def test_settles_at_once_when_much_is_owed(sqlite_url: str) -> None:
    async with open_till(sqlite_url, settle_base_units=4_000) as till:
        opening = await _used(till, 5_000_000, first=5_000)

        async def settled() -> object:
            return (await till.channel(opening.channel_id)).settled

        await _becomes(settled, 5_000)
        assert await till.is_proven()


async def test_closes_a_channel_that_nobody_used_for_a_day(till: Till) -> None:
    before = till.node.balance(PAYEE)
    opening = await _used(till, 2_500_500)

    till.rig.clock.advance(25 * 3600)

    await _becomes(_states(till, opening), "closed")
    assert 2_501 == till.node.balance(PAYEE) - before
    assert await till.is_proven()


async def test_failure_32_close_request_stops_sales_and_settles_and_a_top_up_cancels_it(
    till: Till,
) -> None:
    before = till.node.balance(PAYEE)
    opening = await _used(till, 5_000_000, first=5_000)
    challenge = await till.challenge()
    await _watches(till)
    till.node.submit(till.payer.request_close(opening.descriptor))

    await _becomes(_states(till, opening), "payer_closing")
    refused = await till.authorize(till.voucher_of(opening, challenge, 10_000))

    async def paid() -> object:
        return till.node.balance(PAYEE) - before

    await _becomes(paid, 5_000)
    topped = await till.manage(till.top_up_of(opening, challenge, 10_000))
    again = await till.authorize(till.voucher_of(opening, challenge, 10_000))

    assert 410 == refused.refusal.http_status
    assert topped.receipt
    assert again.HasField("admitted")
    assert await till.is_proven()


async def test_failure_32_close_request_while_streaming_ends_the_stream(small: Till) -> None:
    opening, admitted = await small.opened(50_000, first=9_000)
    await _watches(small)

    async with small.bus.subscribe("payment.channel.v1") as messages:
        small.node.submit(small.payer.request_close(opening.descriptor))
        async for data in messages:
            if ChannelChanged.FromString(data).is_closed:
                break
        refused = await small.extend(admitted, 8_000_000)

    assert 410 == refused.refusal.http_status


async def test_failure_32_channel_is_closed_for_what_was_spent_before_its_payer_may_withdraw(
    till: Till,
) -> None:
    before = till.node.balance(PAYEE)
    opening = await _used(till, 4_321_001)
    await _watches(till)
    till.node.submit(till.payer.request_close(opening.descriptor))
    await _becomes(_states(till, opening), "payer_closing")

    till.rig.clock.advance(700)

    await _becomes(_states(till, opening), "closed")
    assert 4_322 == till.node.balance(PAYEE) - before
    assert await till.is_proven()


async def test_failure_32_withdrawal_that_nobody_saw_coming_is_a_loss_in_the_books(
    small: Till,
) -> None:
    opening = await _used(small, 4_321_001)
    await _watches(small)
    small.node.faults.is_down = True
    small.node.submit(small.payer.request_close(opening.descriptor))
    small.node.pass_time(901)
    small.payer.ahead_s = 901
    small.node.submit(small.payer.withdraw(opening.descriptor))
    small.node.faults.is_down = False

    await _becomes(_states(small, opening), "closed")
    await _becomes(_lost(small), 4_322.0)

    balances = await small.rig.balances()
    assert -4_321_001 == balances["writeoff:chain"]
    assert 0 == balances[f"tempo_escrow:{opening.channel_id}"]
    assert await small.is_proven()


def _lost(till: Till) -> Callable[[], Awaitable[object]]:
    async def lost() -> object:
        return till.registry.get_sample_value("turnpike_payment_machine_lost_base_units_total")

    return lost


async def _watches(till: Till) -> None:
    """Return when the clockwork looks for close requests, from a block before what follows."""

    async def cursor() -> object:
        work = await till.rig.transactions.read(_cursor)
        return work is not None

    await _becomes(cursor, expected=True)


def _cursor(connection: Connection) -> object:
    return connection.execute(select(chain_cursors.c.next_block)).scalar()
