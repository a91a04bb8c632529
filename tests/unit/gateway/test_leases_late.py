"""Credit that comes back late: what payment keeps for a while, and refusals that are too old."""

import asyncio

from kit.errors import Reason
from tests.fakes.ledger import Ledger, need_only
from tests.fakes.openai_calls import eventually
from tests.unit.gateway.test_leases import HOLD, Desk, desk, refused_with
from turnpike.payment.v1 import payment_pb2


class SlowLedger(Ledger):
    """Keeps part of each return, as payment does until it has heard how a request ended."""

    kept_nusd = 0

    async def ReturnCredit(
        self, request: payment_pb2.ReturnCreditRequest, *, timeout: float
    ) -> payment_pb2.ReturnCreditResponse:
        answer = await super().ReturnCredit(request, timeout=timeout)
        kept_nusd = min(self.kept_nusd, request.undrawn_nusd)
        self.returned_nusd -= kept_nusd
        self.available_nusd -= kept_nusd
        return payment_pb2.ReturnCreditResponse(released_nusd=answer.released_nusd - kept_nusd)


class LateLedger(Ledger):
    """Decides at once and answers later."""

    def __init__(self, available_nusd: int) -> None:
        super().__init__(available_nusd, grants=need_only)
        self.has_decided = False
        self.may_tell = asyncio.Event()

    async def LeaseCredit(
        self, request: payment_pb2.LeaseCreditRequest, *, timeout: float
    ) -> payment_pb2.LeaseCreditResponse:
        try:
            return await super().LeaseCredit(request, timeout=timeout)
        finally:
            self.has_decided = True
            await self.may_tell.wait()


async def test_what_payment_does_not_take_back_yet_is_offered_again() -> None:
    ledger = SlowLedger(100 * HOLD)
    async with desk(ledger, lease_requests=50) as here:
        here.settle(await here.draw(), HOLD // 4)
        await here.quiet()
        ledger.kept_nusd = HOLD - HOLD // 4

        await here.leases.recall("account")
        at_first_nusd = ledger.granted_nusd - ledger.returned_nusd
        ledger.kept_nusd = 0
        await here.leases.tidy()

        assert HOLD == at_first_nusd
        assert HOLD // 4 == ledger.granted_nusd - ledger.returned_nusd
        assert [] == here.leases._retired


async def test_what_payment_never_takes_back_is_left_to_the_end_of_the_lease() -> None:
    ledger = SlowLedger(100 * HOLD)
    ledger.kept_nusd = HOLD
    here = Desk(ledger)
    here.settle(await here.draw(), HOLD)
    await here.quiet()

    await here.leases.recall("account")
    here.clock.advance(11)
    await here.leases.tidy()
    count = len(ledger.returns)
    await here.leases.tidy()

    assert [] == here.leases._retired
    assert count == len(ledger.returns)


async def test_refusal_of_an_older_question_is_not_taken_for_an_answer() -> None:
    ledger = LateLedger(0)
    async with desk(ledger) as here, asyncio.TaskGroup() as group:
        older = group.create_task(asyncio.wait_for(_refused(here), 5))
        await eventually(lambda: ledger.has_decided)
        younger = group.create_task(here.draw())
        await eventually(lambda: here.leases._purses["key"].waiter_count == 2)

        ledger.available_nusd = HOLD
        ledger.may_tell.set()
        drawn = await younger

        assert 1 == await older
        assert HOLD == drawn.hold_nusd


async def _refused(here: Desk) -> int:
    found = await asyncio.gather(here.draw(), return_exceptions=True)
    return refused_with(Reason.INSUFFICIENT_QUOTA, found)
