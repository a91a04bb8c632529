"""A session of machine payments, from its challenge to its close, on both engines."""

from collections.abc import AsyncIterator

import pytest

from services.payment.mpp.receipts import read_receipt
from services.payment.mpp.store_channels import prune
from tests.fakes.tempo_payer import PAYEE
from tests.integration.payment.till import BASE, Till, open_till, terms


@pytest.fixture
async def till(database_url: str) -> AsyncIterator[Till]:
    async with open_till(database_url) as opened:
        yield opened


async def test_session_opens_streams_tops_up_and_closes_for_exactly_what_was_spent(
    till: Till,
) -> None:
    before = till.node.balance(PAYEE)
    opening, admitted = await till.opened(20_000, first=5_000, price=terms(5_000_000, 30_000_000))

    need = (await till.extend(admitted, 8_000_000)).need
    assert ("8000", "5000", "20000") == (
        need.required_cumulative,
        need.accepted_cumulative,
        need.deposit,
    )
    challenge = await till.challenge()
    receipt = (await till.manage(till.voucher_of(opening, challenge, 8_000))).receipt
    assert "8000" == read_receipt(receipt)["acceptedCumulative"]
    assert 8_000_000 == (await till.extend(admitted, 8_000_000)).granted_nusd

    assert "25000" == (await till.extend(admitted, 25_000_000)).need.required_cumulative
    topped = await till.manage(till.top_up_of(opening, challenge, 15_000))
    assert topped.receipt, topped.refusal
    await till.manage(till.voucher_of(opening, challenge, 25_000))
    assert 25_000_000 == (await till.extend(admitted, 25_000_000)).granted_nusd

    spent = await till.run(admitted, 17_000_001, run_id="run")
    assert ("17001", "25000") == (spent["spent"], spent["acceptedCumulative"])
    closed = await till.manage(till.close_of(opening, challenge, 25_000))

    said = read_receipt(closed.receipt)
    assert ("17001", "25000") == (said["spent"], said["acceptedCumulative"])
    assert str(said["txHash"]).startswith("0x")
    assert 17_001 == till.node.balance(PAYEE) - before
    assert await till.is_proven()
    balances = await till.rig.balances()
    assert 0 == balances[f"tempo_escrow:{opening.channel_id}"]
    assert -17_001 * BASE == balances["tempo_settled"]
    assert 999 == balances["revenue:rounding"]


async def test_hint_lowers_the_amount_by_what_the_channel_still_has(till: Till) -> None:
    opening, admitted = await till.opened(first=5_000)
    await till.run(admitted, 1_234_000, run_id="run")

    hinted = await till.challenge(hint=opening.channel_id)
    blind = await till.challenge()

    assert ("1234", "5000") == (hinted.request["amount"], blind.request["amount"])
    details = hinted.request["methodDetails"]
    assert isinstance(details, dict)
    snapshot = details["sessionSnapshot"]
    assert ("5000", "1234", "6234") == (
        snapshot["acceptedCumulative"],
        snapshot["spent"],
        snapshot["requiredCumulative"],
    )
    assert "highestVoucher" not in snapshot


async def test_hint_of_a_full_channel_still_asks_for_a_new_voucher(till: Till) -> None:
    opening = await till.idle(first=9_000)

    hinted = await till.challenge(hint=opening.channel_id)

    assert "1" == hinted.request["amount"]
    await till.admitted(till.voucher_of(opening, hinted, 9_001))


async def test_challenge_has_no_side_effects(till: Till) -> None:
    before = await till.rig.balances()

    first, second = await till.challenge(), await till.challenge()

    assert first.id != second.id
    assert before == await till.rig.balances()


async def test_offers_come_in_the_order_the_client_prefers(till: Till) -> None:
    usual = await till.offered()
    charge_first = await till.offered(accept="tempo/charge, tempo/session;q=0.5")
    charge_only = await till.offered(accept="tempo/session;q=0, tempo/charge")

    assert ["session", "charge"] == [each.intent for each in usual]
    assert ["charge", "session"] == [each.intent for each in charge_first]
    assert ["charge"] == [each.intent for each in charge_only]


async def test_voucher_below_the_slice_is_kept_and_says_what_is_missing(till: Till) -> None:
    opening = await till.idle(first=5_000)
    challenge = await till.challenge(terms(9_000_000))

    answer = await till.authorize(till.voucher_of(opening, challenge, 6_000), terms(9_000_000))

    refusal = answer.refusal
    assert (402, "session/insufficient-balance") == (refusal.http_status, refusal.problem)
    assert "9000" == refusal.extensions["requiredCumulative"]
    assert 6_000 == (await till.channel(opening.channel_id)).accepted
    assert refusal.www_authenticate


async def test_need_beyond_the_deposit_names_the_top_up(till: Till) -> None:
    opening = await till.idle(6_000, first=5_000)
    challenge = await till.challenge(terms(9_000_000))

    answer = await till.authorize(till.voucher_of(opening, challenge, 6_000), terms(9_000_000))

    assert "3000" == answer.refusal.extensions["requiredTopUp"]


async def test_conclusion_shows_what_is_spent_before_the_event_and_the_same_after(
    till: Till,
) -> None:
    _, admitted = await till.opened(first=5_000)

    first = read_receipt((await till.conclude(admitted, 1_500_500)).receipt)
    balance = await till.rig.balance(admitted.account_id)
    await till.settle(admitted, 1_500_500)
    again = read_receipt((await till.conclude(admitted, 1_500_500)).receipt)

    assert ("1501", "1501") == (first["spent"], again["spent"])
    assert (3_499_500, 1_500_500, 0) == balance
    assert (3_499_500, 0, 1_500_500) == await till.rig.balance(admitted.account_id)
    assert await till.is_proven()


async def test_event_before_the_conclusion_leads_to_the_same_books(till: Till) -> None:
    _, admitted = await till.opened(first=5_000)

    await till.settle(admitted, 1_500_500)
    receipt = read_receipt((await till.conclude(admitted, 1_500_500)).receipt)

    assert "1501" == receipt["spent"]
    assert (3_499_500, 0, 1_500_500) == await till.rig.balance(admitted.account_id)


async def test_request_that_never_ran_gives_everything_back(till: Till) -> None:
    _, admitted = await till.opened(first=5_000)

    await till.conclude(admitted, 0, run_id="")

    assert (5_000_000, 0, 0) == await till.rig.balance(admitted.account_id)


async def test_extend_counts_in_totals_so_that_repeats_are_harmless(till: Till) -> None:
    opening, admitted = await till.opened(first=5_000)
    await till.manage(till.voucher_of(opening, await till.challenge(), 9_000))

    for _ in range(3):
        assert 7_000_000 == (await till.extend(admitted, 7_000_000)).granted_nusd

    assert (2_000_000, 7_000_000, 0) == await till.rig.balance(admitted.account_id)


async def test_same_request_id_gets_the_first_answer(till: Till) -> None:
    opening = till.payer.open(50_000)
    credential = till.open_of(opening, await till.challenge(), 5_000)

    first = await till.authorize(credential, request_id="same")
    again = await till.authorize(credential, request_id="same")

    assert first.admitted.lease_id == again.admitted.lease_id
    assert (0, 5_000_000, 0) == await till.rig.balance(first.admitted.account_id)


async def test_conclusion_after_its_note_was_forgotten_changes_nothing(till: Till) -> None:
    _, admitted = await till.opened(first=5_000)
    await till.run(admitted, 1_500_500, run_id="run")
    await till.rig.transactions.write(lambda connection: prune(connection, before_unix_s=0))

    again = read_receipt((await till.conclude(admitted, 1_500_500)).receipt)

    assert "1501" == again["spent"]
    assert (3_499_500, 0, 1_500_500) == await till.rig.balance(admitted.account_id)
