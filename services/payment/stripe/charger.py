"""The clockwork that charges saved cards: recharges, post-paid use, and charges left unanswered.

A charge is written down before Stripe is asked, under a key that is given out once, and is asked
about under the same key until it is known how it went. So a crash or a timeout costs nobody twice.
"""

import asyncio
from typing import Final

import structlog

from kit.clock import Clock
from kit.errors import TurnpikeError
from services.payment.stripe.events import News
from services.payment.stripe.intake import Intake
from services.payment.stripe.metrics import StripeCounts
from services.payment.stripe.port import Cards, Charged, KeyTakenError, UnansweredError
from services.payment.stripe.rules import Charge, due_charge
from services.payment.stripe.settings import StripeSettings
from services.payment.stripe.store import StripeStore

_FORGET_S: Final = 3600.0
_LOOK_UP_MS: Final = 180_000
"""From when on a charge without an answer is looked for too: its key may keep an error for ever."""
_UNDER_WAY_MS: Final = 60_000
_log = structlog.get_logger("services.payment.stripe")


class Charger:
    """Looks at accounts at a steady pace, some in each turn, and charges the cards that are due."""

    def __init__(
        self,
        store: StripeStore,
        cards: Cards,
        intake: Intake,
        *,
        settings: StripeSettings,
        clock: Clock,
        counts: StripeCounts,
    ) -> None:
        self._store = store
        self._cards = cards
        self._intake = intake
        self._settings = settings
        self._clock = clock
        self._counts = counts
        self._after = ""
        self._forget_at_s = clock.monotonic_s()

    async def run(self) -> None:
        """Take turns for ever; a ledger that is away is met again at the next one."""
        while True:
            await asyncio.sleep(self._settings.turn_s)
            try:
                await self.turn()
            except TurnpikeError as error:
                _log.warning("charges_failed", reason=error.reason)

    async def turn(self) -> None:
        """Begin the charges that are due among the next accounts; ask about those under way.

        Raises:
            TurnpikeError: LEDGER_UNAVAILABLE.
        """
        await self._look()
        due = await self._store.charges_due(count_max=self._settings.turn_accounts_max)
        places = asyncio.Semaphore(self._settings.charges_at_once_max)

        async def one(charge: Charge) -> None:
            async with places:
                try:
                    await self._resolve(charge)
                except TurnpikeError as error:
                    _log.warning("charge_not_booked", key=charge.key, reason=error.reason)

        await asyncio.gather(*map(one, due))
        if self._clock.monotonic_s() >= self._forget_at_s:
            self._forget_at_s = self._clock.monotonic_s() + _FORGET_S
            await self._store.forget()

    async def _look(self) -> None:
        """Look at the next accounts; what seems due is decided again within the transaction."""
        count_max, rules = self._settings.turn_accounts_max, self._store.rules
        found = await self._store.page(after=self._after, count_max=count_max)
        self._after = found[-1][0].account_id if len(found) == count_max else ""
        now_ms = self._clock.unix_ms()
        for account, purse in found:
            if purse.debt_nusd and purse.available_nusd:
                await self._store.offset(account.account_id)
            elif due_charge(account, purse, rules, today_cents=0, now_ms=now_ms) is not None:
                await self._store.begin_charge(account.account_id)

    async def _resolve(self, charge: Charge) -> None:
        """Ask Stripe for a charge, or about it, and book what it says."""
        try:
            charged = await self._ask(charge)
        except UnansweredError as error:
            self._counts.charge("unanswered")
            _log.warning("charge_unanswered", key=charge.key, error=str(error))
            wait_ms = round(self._settings.repeat_wait_s * 1000)
            await self._store.postpone(charge, wait_ms=wait_ms)
            return
        if charged is None:
            self._counts.charge("lost")
            _log.error("charge_lost", key=charge.key)
            await self._store.lose(charge)
            return
        await self._book(charge, charged)

    async def _ask(self, charge: Charge) -> Charged | None:
        age_ms = self._clock.unix_ms() - charge.unix_ms
        if charge.intent_id or age_ms >= _LOOK_UP_MS:
            found = await self._cards.find(charge)
            if found is not None or age_ms >= self._settings.repeat_max_s * 1000:
                return found
        try:
            return await self._cards.charge(charge)
        except KeyTakenError:
            return None

    async def _book(self, charge: Charge, charged: Charged) -> None:
        if charged.paid is not None:
            self._counts.charge("paid")
            await self._intake.take(charged.paid)
        elif charged.decline_code:
            self._counts.charge("declined")
            _log.warning("charge_declined", key=charge.key, code=charged.decline_code)
            await self._intake.take(
                News(
                    "",
                    "",
                    intent_id=charged.intent_id or charge.key,
                    account_id=charge.account_id,
                    charge_number=charge.number,
                    decline_code=charged.decline_code,
                )
            )
        else:
            await self._store.postpone(charge, wait_ms=_UNDER_WAY_MS, intent_id=charged.intent_id)
