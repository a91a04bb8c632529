"""Episodes with caps: a lease for each request, and what it did not use back at once."""

import asyncio

import pytest

from gateway.leases import Draw
from gateway.singly import HeldSingly
from kit.errors import Reason, TurnpikeError
from tests.fakes.ledger import Ledger, need_only
from tests.unit.gateway.test_leases import CALLER, HOLD, NEIGHBOUR, Desk, desk
from turnpike.payment.v1 import payment_pb2

EPISODE = "0199d1c8-0000-7000-8000-000000000001"


class CappedLedger(Ledger):
    """Says that episodes are held singly, and grants those exactly what they need."""

    is_singly = True

    async def LeaseCredit(
        self, request: payment_pb2.LeaseCreditRequest, *, timeout: float
    ) -> payment_pb2.LeaseCreditResponse:
        if request.episode_id:
            assert request.need_nusd == request.want_nusd
        answer = await super().LeaseCredit(request, timeout=timeout)
        answer.holds_episodes_singly = self.is_singly
        return answer

    @property
    def episodes(self) -> list[str]:
        """For which episode each lease was asked for."""
        return [request.episode_id for request in self.requests]


async def draw(here: Desk, need_nusd: int = HOLD, episode_id: str = EPISODE) -> Draw:
    drawn = here.leases.try_draw(CALLER, need_nusd, episode_id) or await here.leases.draw(
        CALLER, need_nusd, episode_id
    )
    here.open.append(drawn)
    return drawn


async def test_first_lease_tells_that_episodes_are_held_singly() -> None:
    async with desk(CappedLedger(100 * HOLD), lease_requests=50) as here:
        first, second = await draw(here), await draw(here)

        assert ["", EPISODE, EPISODE] == here.ledger.episodes  # type: ignore[attr-defined]
        assert first.lease is not second.lease
        assert [HOLD, HOLD] == [each.lease.owed_nusd + each.hold_nusd for each in (first, second)]


async def test_requests_without_an_episode_go_on_sharing() -> None:
    async with desk(CappedLedger(100 * HOLD), lease_requests=50) as here:
        await here.draw()
        await draw(here)
        shared = [await here.draw() for _ in range(3)]

        assert ["", EPISODE] == here.ledger.episodes  # type: ignore[attr-defined]
        assert 1 == len({each.lease.lease_id for each in shared})


async def test_what_a_request_of_an_episode_did_not_use_goes_back_at_once() -> None:
    async with desk(CappedLedger(100 * HOLD), lease_requests=50) as here:
        drawn = await draw(here)
        here.settle(drawn, HOLD // 4)
        await here.quiet()

        assert [(drawn.lease.lease_id, HOLD - HOLD // 4)] == [
            (each.lease_id, each.undrawn_nusd) for each in here.ledger.returns
        ]


async def test_recall_tells_before_the_next_lease_does() -> None:
    ledger = CappedLedger(100 * HOLD)
    ledger.is_singly = False
    async with desk(ledger, lease_requests=50) as here:
        shared = await draw(here)
        await here.leases.recall("account", holds_episodes_singly=True)
        ledger.is_singly = True
        alone = await draw(here)

        assert ["", EPISODE] == ledger.episodes
        assert shared.lease is not alone.lease
        assert here.leases.holds_episodes_singly("account")


async def test_answer_that_no_cap_is_left_ends_it() -> None:
    ledger = CappedLedger(100 * HOLD)
    async with desk(ledger) as here:
        await draw(here)
        ledger.is_singly = False
        here.clock.advance(1)
        await draw(here)
        shared = [await draw(here) for _ in range(3)]

        assert not here.leases.holds_episodes_singly("account")
        assert 1 == len({each.lease.lease_id for each in shared})


async def test_refusal_is_payments_and_others_are_not_held_up() -> None:
    ledger = CappedLedger(2 * HOLD, grants=need_only)
    async with desk(ledger) as here:
        await draw(here)
        with pytest.raises(TurnpikeError) as refused:
            await draw(here)

        assert Reason.INSUFFICIENT_QUOTA == refused.value.reason
        assert HOLD == (await here.draw(caller=CALLER)).hold_nusd


async def test_client_that_leaves_while_payment_is_asked_gives_its_lease_back() -> None:
    ledger = CappedLedger(100 * HOLD)
    async with desk(ledger) as here:
        await draw(here)
        ledger.is_open.clear()
        leaving = asyncio.ensure_future(here.leases.draw(CALLER, HOLD, EPISODE))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        ledger.is_open.set()
        await here.quiet()

        assert [HOLD] == [each.undrawn_nusd for each in ledger.returns]


async def test_no_task_for_the_question_is_said_so() -> None:
    async with desk(CappedLedger(100 * HOLD), tasks_max=1) as here:
        await here.leases.recall("account", holds_episodes_singly=True)
        here.ledger.is_open.clear()
        other = asyncio.ensure_future(here.leases.draw(NEIGHBOUR, HOLD))
        await asyncio.sleep(0)
        with pytest.raises(TurnpikeError) as refused:
            await here.leases.draw(CALLER, HOLD, EPISODE)
        here.ledger.is_open.set()
        here.open.append(await other)

        assert Reason.LEDGER_UNAVAILABLE == refused.value.reason


def test_old_answer_does_not_undo_newer_news() -> None:
    held = HeldSingly()
    held.learn("a", is_singly=True, asked_s=10.0)

    held.learn("a", is_singly=False, asked_s=9.0)
    still = "a" in held
    held.learn("a", is_singly=False, asked_s=11.0)

    assert (True, False) == (still, "a" in held)


def test_what_nobody_asks_for_is_forgotten() -> None:
    held = HeldSingly()
    held.learn("a", is_singly=True, asked_s=0.0)

    held.tidy(300.0)
    still = "a" in held
    held.tidy(301.0)

    assert (True, False) == (still, "a" in held)
