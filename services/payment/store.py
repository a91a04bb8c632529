"""The payment room's store: every statement it runs, behind methods that say what they mean.

The statements themselves live in the `store_*` files beside this one, by noun.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from kit.clock import Clock
from services.payment import store_balances, store_leases, store_settlement, store_sweep
from services.payment.batch import Parcel
from services.payment.promos import store as store_promos
from services.payment.promos.store import PromoTerms
from services.payment.settings import PaymentSettings
from services.payment.store_engine import Transactions
from services.payment.store_leases import Grant, LeaseRules, LeaseTerms, Shortage
from services.payment.store_settlement import Applied, SettlementRules
from services.payment.store_sweep import SweepRules, Swept
from services.payment.store_verify import Snapshot


class PaymentStore:
    """The ledger, leases and charges of one database; each method is one transaction."""

    def __init__(
        self,
        transactions: Transactions,
        settings: PaymentSettings,
        *,
        clock: Clock,
        new_id: Callable[[int], str],
    ) -> None:
        self._transactions = transactions
        self._settings = settings
        self._clock = clock
        self._new_id = new_id
        self._lease_rules = LeaseRules(
            lease_ms=_ms(settings.lease_s),
            lease_max_nusd=settings.lease_max_nusd,
            share=settings.lease_share,
        )
        self._settlement_rules = SettlementRules(
            hold_ttl_ms=_ms(settings.hold_ttl_s),
            refunds_per_hour_max=settings.refunds_per_hour_max,
        )
        self._sweep_rules = SweepRules(
            draw_grace_ms=_ms(settings.draw_grace_s),
            hold_ttl_ms=_ms(settings.hold_ttl_s),
            router_gone_ms=_ms(settings.router_gone_s),
            keep_ms=_ms(settings.answers_keep_s),
            caps_keep_ms=_ms(settings.caps.keep_s),
            rows_max=settings.sweep_max,
        )

    async def lease(self, terms: LeaseTerms) -> Grant | Shortage:
        """Return the grant, or the shortage; once per request id.

        Raises:
            TurnpikeError: BILLING_NOT_ACTIVE, ALREADY_EXISTS, LEDGER_UNAVAILABLE.
        """
        lease_id = self._new_id(self._clock.unix_ms())
        return await self._transactions.write(
            lambda connection: store_leases.grant(
                connection,
                terms,
                lease_id=lease_id,
                rules=self._lease_rules,
                now_ms=self._clock.unix_ms(),
            )
        )

    async def give_back(
        self, *, lease_id: str, undrawn_nusd: int, request_id: str
    ) -> tuple[str, int]:
        """Release part of a lease; return its account and what was released, nano-USD.

        Raises:
            TurnpikeError: NOT_FOUND, ALREADY_EXISTS, LEDGER_UNAVAILABLE.
        """
        return await self._transactions.write(
            lambda connection: store_leases.give_back(
                connection,
                lease_id=lease_id,
                undrawn_nusd=undrawn_nusd,
                request_id=request_id,
                now_ms=self._clock.unix_ms(),
            )
        )

    async def credit(
        self, *, account_id: str, amount_nusd: int, source: str, request_id: str
    ) -> dict[str, int]:
        """Credit an account and return the fields of its `Balance`.

        Raises:
            TurnpikeError: ALREADY_EXISTS, LEDGER_UNAVAILABLE.
        """
        return await self._transactions.write(
            lambda connection: store_balances.credit(
                connection,
                account_id=account_id,
                amount_nusd=amount_nusd,
                source=source,
                request_id=request_id,
                now_ms=self._clock.unix_ms(),
            )
        )

    async def give(self, terms: PromoTerms) -> dict[str, int]:
        """Give promotional credit and return the fields of the account's `Balance`.

        Raises:
            TurnpikeError: ALREADY_EXISTS, LEDGER_UNAVAILABLE.
        """
        return await self._transactions.write(
            lambda connection: store_promos.credit(connection, terms, now_ms=self._clock.unix_ms())
        )

    async def settle(self, parcels: Sequence[Parcel], *, stream: str) -> Applied:
        """Apply deliveries, in stream order, once each.

        Raises:
            TurnpikeError: LEDGER_UNAVAILABLE.
        """
        return await self._transactions.write(
            lambda connection: store_settlement.settle(
                connection,
                parcels,
                stream=stream,
                now_ms=self._clock.unix_ms(),
                rules=self._settlement_rules,
            )
        )

    async def bury(self, parcel: Parcel, *, stream: str, reason: str) -> Applied:
        """Keep a delivery that cannot be applied as a dead letter."""
        return await self._transactions.write(
            lambda connection: store_settlement.bury(
                connection, parcel, stream=stream, reason=reason, now_ms=self._clock.unix_ms()
            )
        )

    async def sweep(self) -> Swept:
        """Release what has ended, take back gifts that have, and drop what is old."""
        return await self._transactions.write(
            lambda connection: store_sweep.sweep(
                connection, rules=self._sweep_rules, now_ms=self._clock.unix_ms()
            )
        )

    async def rebuild(self) -> tuple[int, int]:
        """Recompute the balances; return how many were wrong and how many there are."""
        return await self._transactions.write(store_balances.rebuild)

    async def balance(self, account_id: str) -> dict[str, int]:
        """Return the fields of an account's `Balance`."""
        return await self._transactions.read(
            lambda connection: store_balances.balance(connection, account_id)
        )

    async def balances(self, *, after: str, count_max: int) -> list[tuple[str, int]]:
        """Return ledger accounts and their balances by name, from the one after `after`."""
        return await self._transactions.read(
            lambda connection: store_balances.page(connection, after=after, count_max=count_max)
        )

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """Open one consistent state of everything, for its verification."""
        async with self._transactions.snapshot() as read:
            yield Snapshot(read)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
