"""Leases with a second chance: before a refusal, unspent leases of the account are called back."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

import structlog

from kit.bus.port import Bus, BusUnavailableError
from kit.errors import Reason, TurnpikeError
from kit.money import format_usd
from services.payment.caps.windows import END_OF_TIME_MS, Scope, Window
from services.payment.settings import PaymentSettings
from services.payment.store import PaymentStore
from services.payment.store_leases import Grant, LeaseTerms, Shortage
from turnpike.events.v1.events_pb2 import LeaseRecall

_log = structlog.get_logger("services.payment")
LEASE_RECALL: Final = "payment.lease_recall.v1"


Why: TypeAlias = Callable[[str], Awaitable[TurnpikeError | None]]
"""Returns why an account is short when its balance alone does not say it, None otherwise."""


class Leases:
    """Grants and takes back leases; requests that are short wait a moment for returns."""

    def __init__(
        self,
        store: PaymentStore,
        bus: Bus,
        *,
        settings: PaymentSettings,
        why: Why | None = None,
    ) -> None:
        self._why = why
        self._store = store
        self._bus = bus
        self._wait_s = settings.recall_wait_s
        self._waiters_max = settings.recall_waiters_max
        self._waiters: defaultdict[str, set[_Waiter]] = defaultdict(set)
        self._waiter_count = 0

    async def grant(self, terms: LeaseTerms) -> Grant:
        """Return a lease.

        Raises:
            TurnpikeError: INSUFFICIENT_QUOTA or BILLING_HARD_LIMIT_REACHED, even after a recall;
                BILLING_NOT_ACTIVE; ALREADY_EXISTS; LEDGER_UNAVAILABLE.
        """
        answer = await self._store.lease(terms)
        if isinstance(answer, Shortage) and self._may_come_back(answer, terms.need_nusd):
            await self._recall(terms.account_id, terms.need_nusd - answer.available_nusd)
            answer = await self._store.lease(terms)
        if isinstance(answer, Shortage):
            if answer.cap is None and self._why is not None:
                error = await self._why(terms.account_id)
                if error is not None:
                    raise error
            raise refusal_of(answer, terms.need_nusd)
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

    async def call_back(self, account_id: str, *, holds_episodes_singly: bool = False) -> None:
        """Call back an account's unspent leases, and tell holders how episodes are held now.

        Who misses it hears so with its next lease.
        """
        recall = LeaseRecall(account_id=account_id, holds_episodes_singly=holds_episodes_singly)
        try:
            async with asyncio.timeout(self._wait_s):
                await self._bus.publish(LEASE_RECALL, recall.SerializeToString())
        except (TimeoutError, BusUnavailableError):
            _log.warning("recall_not_sent", account_id=account_id)

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


def refusal_of(shortage: Shortage, need_nusd: int) -> TurnpikeError:
    """Return what a shortage means to who asked: which limit, and how much is missing."""
    missing_nusd = need_nusd - shortage.available_nusd
    have, need = format_usd(shortage.available_nusd), format_usd(need_nusd)
    figures = {
        "available_nusd": str(shortage.available_nusd),
        "need_nusd": str(need_nusd),
        "missing_nusd": str(missing_nusd),
        "missing_usd": format_usd(missing_nusd),
    }
    if (cap := shortage.cap) is None:
        text = f"Balance is {have} USD; {need} USD needed."
        return TurnpikeError(Reason.INSUFFICIENT_QUOTA, text, limit_source="balance", **figures)
    if cap.span.end_unix_ms < END_OF_TIME_MS:
        figures["resets_unix_s"] = str(cap.span.end_unix_ms // 1000)
    return TurnpikeError(
        Reason.BILLING_HARD_LIMIT_REACHED,
        f"{_CALLED[cap.name.scope]} {format_usd(cap.limit_nusd)} USD{_PER[cap.name.window]} has"
        f" {have} USD left; {need} USD needed.",
        limit_source=cap.source,
        limit_nusd=str(cap.limit_nusd),
        used_nusd=str(cap.used_nusd),
        **figures,
    )


_CALLED: Final = {
    Scope.ACCOUNT: "The account's cap of",
    Scope.KEY: "The key's cap of",
    Scope.EPISODE: "The episode's budget of",
}
_PER: Final = {Window.DAY: " a day", Window.MONTH: " a month", Window.TOTAL: ""}
