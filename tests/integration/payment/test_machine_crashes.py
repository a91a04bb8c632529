"""A process that dies after each step it persisted: row 37 of the list of failures."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest

from services.payment.mpp.challenge import Challenge
from services.payment.mpp.receipts import read_receipt
from tests.fakes.tempo_payer import PAYEE, Opening
from tests.integration.payment.till import (
    KilledError,
    Killer,
    Till,
    challenges_of,
    credential_of,
    open_till,
    reopened,
    terms,
)
from turnpike.payment.v1 import machine_pb2 as pb

STEP_COUNT = 11
"""Transactions that the whole session commits."""
SPENT_NUSD = 6_543_210


PRICE = terms(5_000_000, 20_000_000)


@dataclass
class Client:
    """What a client remembers over the crashes of its server: how far it got."""

    opening: Opening
    challenge: Challenge
    admitted: pb.Admitted = field(default_factory=pb.Admitted)
    done_count: int = 0

    async def play(self, till: Till) -> None:
        """Open, stream over vouchers and a top-up, and close; from the first step not answered."""
        steps = (
            self._open,
            lambda each: self._told(each, each.voucher_of(self.opening, self.challenge, 7_000)),
            lambda each: self._told(each, each.top_up_of(self.opening, self.challenge, 5_000)),
            lambda each: self._told(each, each.voucher_of(self.opening, self.challenge, 8_000)),
            self._extend,
            self._conclude,
            lambda each: self._told(each, each.close_of(self.opening, self.challenge, 8_000)),
        )
        for step in steps[self.done_count :]:
            await step(till)
            self.done_count += 1

    async def _open(self, till: Till) -> None:
        credential = till.open_of(self.opening, self.challenge, 5_000)
        answer = await till.authorize(credential, PRICE, request_id="first")
        assert answer.HasField("admitted"), answer.refusal
        self.admitted = answer.admitted

    async def _extend(self, till: Till) -> None:
        assert 8_000_000 == (await till.extend(self.admitted, 8_000_000)).granted_nusd

    async def _conclude(self, till: Till) -> None:
        concluded = await till.conclude(self.admitted, SPENT_NUSD)
        assert "6544" == read_receipt(concluded.receipt)["spent"]
        await till.settle(self.admitted, SPENT_NUSD)

    @staticmethod
    async def _told(till: Till, credential: str) -> None:
        answer = await till.manage(credential)
        assert answer.receipt, answer.refusal


async def _killed_after(till: Till, commits: int, client: Client) -> bool:
    """Run a process that dies after so many commits; return whether it did."""
    quiet = till.settings.model_copy(update={"tick_s": 3600.0})
    killer = Killer(left=commits)
    async with reopened(till.rig, till.node, quiet, killer=killer) as dying:
        try:
            await client.play(dying)
        except KilledError:
            return True
    return False


@pytest.mark.parametrize("commits", range(1, STEP_COUNT + 1))
async def test_failure_37_session_goes_on_after_a_kill_at_each_persisted_step(
    sqlite_url: str, commits: int
) -> None:
    async with open_till(sqlite_url, tick_s=3600.0) as till:
        payee = till.node.balance(PAYEE)
        client = Client(till.payer.open(20_000), await till.challenge(PRICE))

        was_killed = await _killed_after(till, commits, client)

        till.rig.clock.advance(60)
        settings = till.settings.model_copy(update={"tick_s": 0.02})
        async with reopened(till.rig, till.node, settings) as next_one:
            await _finish(next_one, client)
            assert await next_one.is_proven()
        assert was_killed
        assert 6_544 == till.node.balance(PAYEE) - payee
        assert 0 == (await till.rig.balances())[f"tempo_escrow:{client.opening.channel_id}"]


async def _finish(till: Till, client: Client) -> None:
    """Go on where the client was; a step that the last process left half done takes a while."""
    async with asyncio.timeout(20):
        while True:
            try:
                await client.play(till)
            except AssertionError:
                await asyncio.sleep(0.05)
            else:
                return


async def test_failure_37_no_step_is_left_out(sqlite_url: str) -> None:
    async with open_till(sqlite_url, tick_s=3600.0) as till:
        client = Client(till.payer.open(20_000), await till.challenge(PRICE))

        assert not await _killed_after(till, STEP_COUNT + 1, client)
        assert 7 == client.done_count


@pytest.mark.parametrize("commits", range(1, 4))
async def test_failure_37_transfer_is_credited_once_after_a_kill_at_each_persisted_step(
    database_url: str, commits: int
) -> None:
    async with open_till(database_url, tick_s=3600.0) as till:
        payee = till.node.balance(PAYEE)
        challenge = (await till.offered(accept="tempo/charge"))[0]
        payload = {"type": "transaction", "signature": till.payer.transfer(5_000)}
        credential = credential_of(challenge, payload)

        async with AsyncExitStack() as stack:
            killer = Killer(left=commits)
            dying = await stack.enter_async_context(
                reopened(till.rig, till.node, till.settings, killer=killer)
            )
            with pytest.raises(KilledError):
                await dying.authorize(credential, request_id="first")
        answer = await till.authorize(credential, request_id="first")

        assert answer.HasField("admitted"), answer.refusal
        assert 5_000 == till.node.balance(PAYEE) - payee
        assert (0, 5_000_000, 0) == await till.rig.balance(answer.admitted.account_id)
        assert await till.is_proven()


async def test_failure_37_used_challenge_outlives_the_process(sqlite_url: str) -> None:
    async with open_till(sqlite_url) as till:
        opening = await till.idle(first=5_000)
        credential = till.voucher_of(opening, await till.challenge(), 20_000)
        await till.admitted(credential)

        async with reopened(till.rig, till.node, till.settings) as next_one:
            again = await next_one.authorize(credential)

    assert "invalid-challenge" == again.refusal.problem
    assert challenges_of(again.refusal)
