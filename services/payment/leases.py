"""Leases with a second chance: before a refusal, unspent leases of the account are called back."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from kit.bus.port import Bus
from kit.errors import Reason, TurnpikeError
from kit.money import format_usd
from services.payment.settings import PaymentSettings
from services.payment.store import PaymentStore
from services.payment.store_leases import LeaseTerms, Shortage
from turnpike.events.v1.events_pb2 import LeaseRecall

LEASE_RECALL: Final = "payment.lease_recall.v1"


class Leases:
    """Grants and takes back leases; requests that are short wait a moment for returns."""

    def __init__(self, store: PaymentStore, bus: Bus, *, settings: PaymentSettings) -> None:
        self._store = store
        self._bus = bus
        self._wait_s = settings.recall_wait_s
        self._waiters_max = settings.recall_waiters_max
        self._waiters: defaultdict[str, set[_Waiter]] = defaultdict(set)
        self._waiter_count = 0

    async def grant(self, terms: LeaseTerms) -> tuple[str, int]:
        """Return lease id and grant, nano-USD.

        Raises:
            TurnpikeError: INSUFFICIENT_QUOTA, even after a recall; BILLING_NOT_ACTIVE;
                ALREADY_EXISTS; LEDGER_UNAVAILABLE.
        """
        answer = await self._store.lease(terms)
        if isinstance(answer, Shortage) and self._may_come_back(answer, terms.need_nusd):
            await self._recall(terms.account_id, terms.need_nusd - answer.available_nusd)
            answer = await self._store.lease(terms)
        if isinstance(answer, Shortage):
            raise _insufficient(answer, terms.need_nusd)
        return answer

    async def give_back(self, *, lease_id: str, undrawn_nusd: int, request_id: str) -> int:
        """Release part of a lease, wake who waits for it and return what was released, nano-USD.

        Raises:
            TurnpikeError: NOT_FOUND, ALREADY_EXISTS, LEDGER_UNAVAILABLE.
        """
        account_id, amount = await self._store.give_back(
            lease_id=lease_id, undrawn_nusd=undrawn_nusd, request_id=request_id
        )
        for waiter in tuple(self._waiters.get(account_id, ())):
            waiter.hear(amount)
        return amount

    def _may_come_back(self, shortage: Shortage, need_nusd: int) -> bool:
        is_enough = shortage.available_nusd + shortage.held_nusd >= need_nusd
        return is_enough and self._waiter_count < self._waiters_max

    async def _recall(self, account_id: str, missing_nusd: int) -> None:
        with self._waiting(account_id, missing_nusd) as waiter:
            recall = LeaseRecall(account_id=account_id)
            try:
                async with asyncio.timeout(self._wait_s):
                    await self._bus.publish(LEASE_RECALL, recall.SerializeToString())
                    await waiter.enough.wait()
            except TimeoutError:
                return

    @contextmanager
    def _waiting(self, account_id: str, missing_nusd: int) -> Iterator["_Waiter"]:
        waiter = _Waiter(missing_nusd)
        self._waiters[account_id].add(waiter)
        self._waiter_count += 1
        try:
            yield waiter
        finally:
            self._waiter_count -= 1
            self._waiters[account_id].discard(waiter)
            if not self._waiters[account_id]:
                del self._waiters[account_id]


class _Waiter:
    """Waits until enough has come back for one request."""

    def __init__(self, missing_nusd: int) -> None:
        self._missing_nusd = missing_nusd
        self.enough = asyncio.Event()

    def hear(self, amount_nusd: int) -> None:
        self._missing_nusd -= amount_nusd
        if self._missing_nusd <= 0:
            self.enough.set()


def _insufficient(shortage: Shortage, need_nusd: int) -> TurnpikeError:
    have = format_usd(shortage.available_nusd)
    return TurnpikeError(
        Reason.INSUFFICIENT_QUOTA,
        f"Balance is {have} USD; {format_usd(need_nusd)} USD needed.",
        available_nusd=str(shortage.available_nusd),
        need_nusd=str(need_nusd),
    )
