"""Openings and top-ups: rows 30, 31, 35 and 38 of the list of failures."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.fakes.tempo_payer import PAYEE
from tests.integration.payment.till import Till, open_till, terms


@pytest.fixture
async def till(database_url: str) -> AsyncIterator[Till]:
    async with open_till(database_url) as opened:
        yield opened


@pytest.fixture
async def small(sqlite_url: str) -> AsyncIterator[Till]:
    async with open_till(sqlite_url) as opened:
        yield opened


async def _state(till: Till, channel_id: str) -> str:
    channel = await till.channel(channel_id)
    return "" if channel is None else str(channel.state)


async def test_failure_31_opening_that_reverts_buys_nothing(till: Till) -> None:
    opening = till.payer.open(50_000)
    till.node.faults.reverts = 1

    answer = await till.authorize(till.open_of(opening, await till.challenge(), 5_000))

    assert (402, "verification-failed") == (answer.refusal.http_status, answer.refusal.problem)
    assert "failed" == await _state(till, opening.channel_id)
    assert await till.is_proven()


async def test_failure_31_opening_for_somebody_else_is_not_sent(small: Till) -> None:
    stranger, payer = "0x" + "ab" * 20, small.payer
    openings = {
        "payee": payer.open(50_000, payee=stranger),
        "token": payer.open(50_000, token=stranger),
        "operator": payer.open(50_000, operator=stranger),
    }

    for name, opening in openings.items():
        answer = await small.authorize(small.open_of(opening, await small.challenge(), 5_000))
        assert "verification-failed" == answer.refusal.problem, name
        assert await small.channel(opening.channel_id) is None, name
    assert not [method for method in small.node.calls if method.startswith("eth_sendRaw")]


async def test_failure_31_deposit_below_the_voucher_or_the_least_is_not_sent(small: Till) -> None:
    challenge = await small.challenge()
    poor, tiny = small.payer.open(4_000), small.payer.open(999)

    above = await small.authorize(small.open_of(poor, challenge, 5_000))
    below = await small.authorize(small.open_of(tiny, challenge, 5_000))

    assert "session/amount-exceeds-deposit" == above.refusal.problem
    assert "verification-failed" == below.refusal.problem
    assert "eth_sendRawTransactionSync" not in small.node.calls


async def test_failure_31_first_voucher_below_the_slice_is_not_sent(small: Till) -> None:
    opening = small.payer.open(50_000)

    answer = await small.authorize(small.open_of(opening, await small.challenge(), 4_999))

    assert "session/insufficient-balance" == answer.refusal.problem
    assert await small.channel(opening.channel_id) is None


async def test_failure_31_descriptor_of_another_transaction_is_refused(small: Till) -> None:
    one, other = small.payer.open(50_000), small.payer.open(60_000)
    mixed = replace(one, raw=other.raw)

    answer = await small.authorize(small.open_of(mixed, await small.challenge(), 5_000))

    assert "verification-failed" == answer.refusal.problem


async def test_failure_31_replayed_opening_buys_nothing_more(small: Till) -> None:
    opening = small.payer.open(50_000)
    credential = small.open_of(opening, await small.challenge(), 5_000)
    await small.conclude(await small.admitted(credential), 0, run_id="")

    same = await small.authorize(credential)
    anew = await small.authorize(small.open_of(opening, await small.challenge(), 5_000))

    assert "invalid-challenge" == same.refusal.problem
    assert "verification-failed" == anew.refusal.problem
    assert (5_000_000, 0, 0) == await small.rig.balance(f"tempo:{opening.channel_id}")


async def test_failure_31_same_opening_in_parallel_delivers_once(till: Till) -> None:
    opening = till.payer.open(50_000)
    credential = till.open_of(opening, await till.challenge(), 5_000)

    answers = await asyncio.gather(*(till.authorize(credential) for _ in range(8)))

    assert 1 == sum(answer.HasField("admitted") for answer in answers)
    assert (0, 5_000_000, 0) == await till.rig.balance(f"tempo:{opening.channel_id}")
    assert await till.is_proven()


async def test_failure_31_opening_whose_receipt_is_missing_goes_on_with_the_same_credential(
    till: Till,
) -> None:
    opening = till.payer.open(50_000)
    credential = till.open_of(opening, await till.challenge(), 5_000)
    till.node.faults.hides_receipts = True

    waits = await till.authorize(credential)
    state = await _state(till, opening.channel_id)
    till.node.faults.hides_receipts = False
    goes_on = await till.authorize(credential)

    assert 503 == waits.refusal.http_status
    assert waits.refusal.retry_after_s > 0
    assert "opening" == state
    assert goes_on.admitted.channel_id == opening.channel_id
    assert 1_000_000_000_000 - 50_000 >= till.node.balance(till.payer.address)


async def test_failure_31_answer_lost_after_the_broadcast_opens_once(small: Till) -> None:
    opening = small.payer.open(50_000)
    small.node.faults.answers_lost = 1

    admitted = await small.admitted(small.open_of(opening, await small.challenge(), 5_000))

    assert opening.channel_id == admitted.channel_id
    assert 50_000 == (await small.channel(opening.channel_id)).deposit


async def test_failure_31_opening_left_by_a_crash_is_found_by_its_hash(small: Till) -> None:
    opening = small.payer.open(50_000)
    small.node.faults.is_holding = True
    await small.authorize(small.open_of(opening, await small.challenge(), 5_000))
    small.node.mine()

    small.rig.clock.advance(60)

    async with asyncio.timeout(10):
        while await _state(small, opening.channel_id) != "open":
            await asyncio.sleep(0.01)
    assert await small.is_proven()


async def test_failure_38_chain_away_refuses_openings_with_retry_after(small: Till) -> None:
    opening = small.payer.open(50_000)
    credential = small.open_of(opening, await small.challenge(), 5_000)
    small.node.faults.is_down = True

    away = await small.authorize(credential)
    small.node.faults.is_down = False
    back = await small.authorize(credential)

    assert 503 == away.refusal.http_status
    assert away.refusal.retry_after_s > 0
    assert not away.refusal.www_authenticate
    assert back.HasField("admitted")


async def test_failure_38_running_channel_goes_on_while_its_state_is_fresh_enough(
    small: Till,
) -> None:
    opening, admitted = await small.opened(first=5_000)
    challenge = await small.challenge()
    small.node.faults.is_down = True

    small.rig.clock.advance(30)
    taken = await small.manage(small.voucher_of(opening, challenge, 6_000))
    held = await small.extend(admitted, 6_000_000)
    small.rig.clock.advance(31)
    stale = await small.manage(small.voucher_of(opening, challenge, 7_000))

    assert taken.receipt
    assert 6_000_000 == held.granted_nusd
    assert 503 == stale.refusal.http_status


async def test_failure_30_top_up_that_reverts_leaves_the_deposit(till: Till) -> None:
    opening = await till.idle(50_000)
    till.node.faults.reverts = 1

    answer = await till.manage(till.top_up_of(opening, await till.challenge(), 10_000))

    assert (402, "verification-failed") == (answer.refusal.http_status, answer.refusal.problem)
    assert 50_000 == (await till.channel(opening.channel_id)).deposit


async def test_failure_30_top_up_of_another_channel_is_refused(small: Till) -> None:
    mine, other = await small.idle(50_000), await small.idle(60_000)
    raw = small.payer.top_up(other.descriptor, 10_000)

    answer = await small.manage(small.top_up_of(mine, await small.challenge(), 10_000, raw=raw))

    assert "verification-failed" == answer.refusal.problem
    assert 60_000 == (await small.channel(other.channel_id)).deposit


async def test_failure_30_voucher_above_the_deposit_is_taken_after_the_top_up(small: Till) -> None:
    opening = await small.idle(10_000)
    challenge = await small.challenge()

    early = await small.manage(small.voucher_of(opening, challenge, 15_000))
    await small.manage(small.top_up_of(opening, challenge, 10_000))
    late = await small.manage(small.voucher_of(opening, challenge, 15_000))

    assert "session/amount-exceeds-deposit" == early.refusal.problem
    assert "5000" == early.refusal.extensions["requiredTopUp"]
    assert late.receipt


async def test_failure_35_unknown_channel_is_gone_and_a_new_one_opens(small: Till) -> None:
    unknown = small.payer.open(50_000)
    challenge = await small.challenge()

    gone = await small.authorize(small.voucher_of(unknown, challenge, 6_000))

    assert (410, "session/channel-not-found") == (gone.refusal.http_status, gone.refusal.problem)
    assert not gone.refusal.www_authenticate
    await small.opened(first=5_000)


async def test_opening_without_content_is_a_management_action(small: Till) -> None:
    opening = small.payer.open(50_000)

    answer = await small.manage(small.open_of(opening, await small.challenge(), 5_000))

    assert answer.receipt
    assert (5_000_000, 0, 0) == await small.rig.balance(f"tempo:{opening.channel_id}")
    assert PAYEE == opening.descriptor.payee


async def test_price_of_a_slice_is_held_not_that_of_the_request(small: Till) -> None:
    _, admitted = await small.opened(first=5_000, price=terms(5_000_000, 90_000_000))

    assert 5_000_000 == admitted.granted_nusd
