"""What a concluded request costs is kept for its usage event, however late that comes."""

from collections.abc import AsyncIterator
from typing import Final

import pytest

from services.payment.mpp.postings import account_of
from services.payment.mpp.receipts import read_receipt
from tests.integration.payment.till import Till, open_till

COST_NUSD: Final = 4_321_001
LONG_S: Final = 3_600.0
"""Far beyond the end of a lease, of a hold, and of what a router without a word is waited for."""


@pytest.fixture
async def till(database_url: str) -> AsyncIterator[Till]:
    async with open_till(database_url, tick_s=LONG_S) as opened:
        yield opened


async def _sweep(till: Till, after_s: float) -> None:
    till.rig.clock.advance(after_s)
    await till.rig.settle()  # A router lives, and has told all it knows.
    await till.rig.store.sweep()


async def test_charge_that_is_on_its_way_finds_its_money(till: Till) -> None:
    opening, admitted = await till.opened(50_000, first=5_000)
    account_id = account_of(opening.channel_id)
    await till.conclude(admitted, COST_NUSD)

    await _sweep(till, LONG_S)

    assert (5_000_000 - COST_NUSD, COST_NUSD, 0) == await till.rig.balance(account_id)
    assert await till.is_proven()
    await till.settle(admitted, COST_NUSD)
    assert (5_000_000 - COST_NUSD, 0, COST_NUSD) == await till.rig.balance(account_id)
    assert "writeoff" not in await till.rig.balances()
    assert await till.is_proven()


async def test_charge_below_what_was_noted_leaves_the_rest_to_the_sweep(till: Till) -> None:
    opening, admitted = await till.opened(50_000, first=5_000)
    account_id = account_of(opening.channel_id)
    await till.conclude(admitted, COST_NUSD)
    await till.settle(admitted, COST_NUSD - 1_001)
    assert 1_001 == (await till.rig.balance(account_id))[1]

    await _sweep(till, LONG_S)

    assert (5_000_000 - COST_NUSD + 1_001, 0, COST_NUSD - 1_001) == await till.rig.balance(
        account_id
    )
    assert await till.is_proven()


async def test_charge_whose_event_never_comes_is_given_up_and_the_channel_can_be_closed(
    till: Till,
) -> None:
    opening, admitted = await till.opened(50_000, first=5_000)
    account_id = account_of(opening.channel_id)
    await till.conclude(admitted, COST_NUSD)

    await _sweep(till, till.rig.settings.answers_keep_s + LONG_S)

    assert (5_000_000, 0, 0) == await till.rig.balance(account_id)
    assert await till.is_proven()
    closed = await till.manage(till.close_of(opening, await till.challenge(), 5_000))
    assert "0" == read_receipt(closed.receipt)["spent"]
    assert await till.is_proven()
