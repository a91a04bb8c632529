"""The card rail's store: every statement it runs, behind methods that say what they mean."""

from typing import Any, Final, NamedTuple

from sqlalchemy import Connection

from kit.clock import Clock
from kit.errors import Reason, TurnpikeError
from services.payment.store_answers import ask, remember
from services.payment.store_books import Books
from services.payment.store_engine import Transactions
from services.payment.stripe import (
    store_accounts,
    store_charges,
    store_invoices,
    store_payments,
)
from services.payment.stripe.events import News
from services.payment.stripe.invoices import (
    PERIODS_MAX,
    Invoice,
    bounds_of,
    lines_of,
    months,
)
from services.payment.stripe.rules import Account, Charge, ChargeRules, Purse
from services.payment.stripe.settings import StripeSettings
from services.payment.stripe.store_payments import Effect

_PARKED_MAX: Final = 500


class Taken(NamedTuple):
    """What an event did, the account that it changed, if any, and what that has now."""

    effect: Effect
    account_id: str
    purse: Purse


class StripeStore:
    """Accounts, payments and charges of one database; each method is one transaction.

    Every method may raise LEDGER_UNAVAILABLE.
    """

    def __init__(
        self, transactions: Transactions, settings: StripeSettings, *, clock: Clock
    ) -> None:
        self._transactions = transactions
        self._settings = settings
        self._clock = clock
        self.rules: Final = rules_of(settings)

    async def take(self, news: News) -> Taken:
        """Apply what an event says."""

        def work(connection: Connection) -> Taken:
            now_ms = self._clock.unix_ms()
            effect, account_id = store_payments.take(connection, news, self.rules, now_ms=now_ms)
            purses = store_accounts.purses_of(connection, [account_id])
            return Taken(effect, account_id, purses[account_id])

        return await self._transactions.write(work)

    async def account(self, account_id: str) -> tuple[Account, Purse, bool]:
        """Return how an account pays, what it has, and whether its card is being charged."""

        def work(connection: Connection) -> tuple[Account, Purse, bool]:
            purses = store_accounts.purses_of(connection, [account_id])
            return (
                store_accounts.find(connection, account_id),
                purses[account_id],
                store_charges.is_charging(connection, account_id),
            )

        return await self._transactions.read(work)

    async def keep_customer(self, account_id: str, customer_id: str) -> str:
        """Keep an account's customer at Stripe, and return the one that is kept."""

        def work(connection: Connection) -> str:
            Books(connection)
            store_accounts.remember_card(connection, account_id, customer_id, "", 0)
            return store_accounts.find(connection, account_id).customer_id

        return await self._transactions.write(work)

    async def set_recharge(
        self, account_id: str, *, below_nusd: int, cents: int, day_cents: int
    ) -> None:
        """Set an account's recharge, none when all are zero.

        Declines are forgiven; a pause that one has led to is kept.
        """

        def work(connection: Connection) -> None:
            Books(connection)
            account = store_accounts.find(connection, account_id)
            _check_recharge(account, below_nusd)
            values = {
                "recharge_below_nusd": below_nusd,
                "recharge_cents": cents,
                "recharge_day_cents": day_cents,
            }
            if not account.is_postpaid:
                values |= {"decline_count": 0, "is_suspended": 0}
            store_accounts.change(connection, account_id, **values)

        await self._transactions.write(work)

    async def set_postpaid(self, account_id: str, *, is_postpaid: bool) -> None:
        """Give an account its credit limit, or take it back; what was declined is forgiven."""

        def work(connection: Connection) -> None:
            books = Books(connection)
            account, now_ms = store_accounts.find(connection, account_id), self._clock.unix_ms()
            if is_postpaid:
                _check_postpaid(account, store_accounts.purse_of(books, account_id))
            store_accounts.change(
                connection,
                account_id,
                is_postpaid=int(is_postpaid),
                decline_count=0,
                next_try_unix_ms=0,
                is_suspended=0,
            )
            store_accounts.adjust_limit(connection, books, account_id, self.rules, now_ms=now_ms)

        await self._transactions.write(work)

    async def refusal(self, account_id: str) -> TurnpikeError | None:
        """Return why an account's card does not pay for more, None when that is not the reason."""
        account = await self._transactions.read(
            lambda connection: store_accounts.find(connection, account_id)
        )
        if not account.is_suspended:
            return None
        return TurnpikeError(
            Reason.BILLING_NOT_ACTIVE,
            "The balance is used up and the card was declined; pay for a top-up.",
            limit_source="card",
        )

    async def page(self, *, after: str, count_max: int) -> list[tuple[Account, Purse]]:
        """Return accounts with what they have, by id."""
        return await self._transactions.read(
            lambda connection: store_accounts.page(connection, after=after, count_max=count_max)
        )

    async def offset(self, account_id: str) -> int:
        """Pay debt from what has come back to a balance; return how much, nano-USD."""
        return await self._transactions.write(
            lambda connection: store_accounts.offset(
                Books(connection), account_id, now_ms=self._clock.unix_ms()
            )
        )

    async def begin_charge(self, account_id: str) -> Charge | None:
        """Begin the charge that is due for an account, None when none is."""
        return await self._transactions.write(
            lambda connection: store_charges.begin(
                connection, account_id, self.rules, now_ms=self._clock.unix_ms()
            )
        )

    async def charges_due(self, *, count_max: int) -> list[Charge]:
        """Return charges under way that it is time to ask Stripe about."""
        now_ms = self._clock.unix_ms()
        return await self._transactions.read(
            lambda connection: store_charges.due(connection, now_ms=now_ms, count_max=count_max)
        )

    async def postpone(self, charge: Charge, *, wait_ms: int, intent_id: str = "") -> None:
        """Ask about a charge again later."""
        next_ms = self._clock.unix_ms() + wait_ms
        await self._transactions.write(
            lambda connection: store_charges.postpone(
                connection, charge, next_unix_ms=next_ms, intent_id=intent_id
            )
        )

    async def lose(self, charge: Charge) -> None:
        """Give up a charge that Stripe does not have."""
        await self._transactions.write(lambda connection: store_charges.lose(connection, charge))

    async def forget(self) -> None:
        """Drop ids of old webhooks, and what was heard of payments that are none of ours."""
        before_ms = self._clock.unix_ms() - round(self._settings.events_keep_s * 1000)
        await self._transactions.write(
            lambda connection: store_payments.forget(
                connection, before_ms=before_ms, count_max=_PARKED_MAX
            )
        )

    async def payment(self, intent_id: str) -> dict[str, Any] | None:
        """Return what is known of a payment, None when nothing is."""
        return await self._transactions.read(
            lambda connection: store_payments.find(connection, intent_id)
        )

    async def payments(
        self, account_id: str, *, skip_count: int, count_max: int
    ) -> list[dict[str, Any]]:
        """Return an account's payments, newest first."""
        return await self._transactions.read(
            lambda connection: store_payments.payments(
                connection, account_id, skip_count=skip_count, count_max=count_max
            )
        )

    async def answered(self, request_id: str, asked: list[object]) -> dict[str, Any] | None:
        """Return the answer given before to a request, None for a new one.

        Raises:
            TurnpikeError: ALREADY_EXISTS, the id was used to ask for something else.
        """
        return await self._transactions.read(lambda connection: ask(connection, request_id, asked))

    async def answer(
        self, request_id: str, asked: list[object], answer: dict[str, Any]
    ) -> dict[str, Any]:
        """Keep an answer, and return the one that is kept."""

        def work(connection: Connection) -> dict[str, Any]:
            Books(connection)
            kept = ask(connection, request_id, asked)
            if kept is None:
                now_ms = self._clock.unix_ms()
                remember(connection, request_id, asked, answer, now_ms=now_ms)
            return kept or answer

        return await self._transactions.write(work)

    async def invoices(self, account_id: str) -> list[Invoice]:
        """Return the newest months of an account that have postings, newest first, no lines."""
        now_ms = self._clock.unix_ms()
        sums = await self._transactions.read(
            lambda connection: store_invoices.day_sums(connection, account_id)
        )
        return months(sums, now_ms=now_ms)[: -PERIODS_MAX - 1 : -1]

    async def invoice(self, account_id: str, period: str) -> Invoice | None:
        """Return one month of an account with its lines, None when it has no postings."""
        bounds = bounds_of(period)
        if bounds is None:
            return None
        now_ms, count_max = self._clock.unix_ms(), self._settings.invoice_lines_max

        def work(connection: Connection) -> Invoice | None:
            sums = store_invoices.day_sums(connection, account_id)
            found = [each for each in months(sums, now_ms=now_ms) if each.period == period]
            if not found:
                return None
            lines = lines_of(
                store_invoices.charge_lines(connection, account_id, bounds),
                store_invoices.group_lines(connection, account_id, bounds),
                store_invoices.single_lines(connection, account_id, bounds, count_max=count_max),
            )
            one = found[0]
            return Invoice(
                one.period, one.opening_nusd, one.closing_nusd, one.by_kind, one.is_final, lines
            )

        return await self._transactions.read(work)


def rules_of(settings: StripeSettings) -> ChargeRules:
    """Return when cards are charged, as settings say."""
    return ChargeRules(
        threshold_nusd=settings.postpaid_threshold_nusd,
        low_percent=settings.postpaid_low_percent,
        charge_min_cents=settings.postpaid_charge_min_cents,
        postpaid_day_cents=settings.postpaid_daily_max_cents,
        decline_wait_ms=round(settings.decline_wait_s * 1000),
        decline_count_max=settings.decline_count_max,
        limit_start_nusd=settings.limit_start_nusd,
        limit_growth_percent=settings.limit_growth_percent,
        limit_max_nusd=settings.limit_max_nusd,
    )


def _check_recharge(account: Account, below_nusd: int) -> None:
    if below_nusd and account.is_postpaid:
        raise TurnpikeError(
            Reason.INVALID_VALUE,
            "The account is post-paid; its card is charged for what it uses.",
            param="auto_recharge",
        )
    if below_nusd and not account.has_card:
        raise no_card()


def _check_postpaid(account: Account, purse: Purse) -> None:
    if not account.has_card:
        raise no_card()
    if account.recharge_below_nusd:
        raise TurnpikeError(
            Reason.INVALID_VALUE,
            "The account is recharged by itself; end that first.",
            param="is_postpaid",
        )
    if purse.debt_nusd:
        raise TurnpikeError(
            Reason.BILLING_NOT_ACTIVE,
            "The account owes; it has to be paid first.",
            limit_source="debt",
            debt_nusd=str(purse.debt_nusd),
        )


def no_card() -> TurnpikeError:
    """Return the refusal of what needs a saved card."""
    return TurnpikeError(
        Reason.BILLING_NOT_ACTIVE,
        "No card is saved; pay for a top-up first, which saves one.",
        limit_source="card",
    )
