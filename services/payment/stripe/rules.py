"""When a card is charged and how much, how far credit reaches, and what of a payment was undone.

Pure: no I/O, no clock. Ledger amounts are nano-USD, Stripe's are US cents; the other way a part of
a cent stays with the account and is charged with the next one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

CENT_NUSD: Final = 10_000_000
"""Nano-USD of one US cent."""

_NOT_REVERSED: Final = frozenset({"failed", "canceled"})
_REFUND_RANKS: Final = {
    name: rank
    for rank, name in enumerate(("requires_action", "pending", "succeeded", "canceled", "failed"))
}
# A dispute moves along these only; an inquiry (warning) takes no money.
_DISPUTE_RANKS: Final = {
    name: rank
    for rank, name in enumerate(
        (
            "warning_needs_response",
            "warning_under_review",
            "warning_closed",
            "needs_response",
            "under_review",
            "prevented",
            "won",
            "lost",
        )
    )
}
_TAKES_MONEY: Final = frozenset({"needs_response", "under_review", "lost"})


class Undoing(StrEnum):
    """What takes a payment back."""

    REFUND = "refund"
    DISPUTE = "dispute"


class Purpose(StrEnum):
    """Why a card is charged."""

    RECHARGE = "recharge"
    POSTPAID = "postpaid"


class Purse(NamedTuple):
    """What an account has, nano-USD; `debt_nusd` is positive when it owes."""

    available_nusd: int
    held_nusd: int
    debt_nusd: int

    @property
    def equity_nusd(self) -> int:
        """What is left when everything is counted."""
        return self.available_nusd + self.held_nusd - self.debt_nusd


@dataclass(frozen=True, slots=True)
class Account:
    """How an account pays; amounts as their names say, moments in Unix milliseconds."""

    account_id: str
    customer_id: str
    payment_method_id: str
    recharge_below_nusd: int
    recharge_cents: int
    recharge_day_cents: int
    is_postpaid: bool
    limit_nusd: int
    charge_count: int
    decline_count: int
    next_try_unix_ms: int
    is_suspended: bool

    @property
    def has_card(self) -> bool:
        """Whether its card can be charged without anybody there."""
        return bool(self.customer_id and self.payment_method_id)


@dataclass(frozen=True, slots=True)
class Charge:
    """One charge of a saved card; `intent_id` is empty until Stripe told it."""

    account_id: str
    number: int
    purpose: Purpose
    amount_cents: int
    customer_id: str
    payment_method_id: str
    intent_id: str
    unix_ms: int

    @property
    def key(self) -> str:
        """Its idempotency key."""
        return f"turnpike:{self.account_id}:{self.number}"


@dataclass(frozen=True, slots=True)
class ChargeRules:
    """When cards are charged, what declines lead to, and how the credit limit grows.

    A decline is followed by a pause of `decline_wait_ms` times the number of declines in a row.
    """

    threshold_nusd: int
    low_percent: int
    charge_min_cents: int
    postpaid_day_cents: int
    decline_wait_ms: int
    decline_count_max: int
    limit_start_nusd: int
    limit_growth_percent: int
    limit_max_nusd: int


def cents_up_to(amount_nusd: int) -> int:
    """Return whole cents of an amount; the part of a cent is left out."""
    return max(0, amount_nusd) // CENT_NUSD


def exact_cents(amount_nusd: int) -> int | None:
    """Return an amount in cents, None when it is not whole ones."""
    cents, rest = divmod(amount_nusd, CENT_NUSD)
    return None if rest else cents


def unbilled_nusd(account: Account, purse: Purse) -> int:
    """Return what a post-paid account used and has not paid; what is held is not used yet."""
    return max(0, account.limit_nusd - purse.equity_nusd) if account.is_postpaid else 0


def due_charge(
    account: Account, purse: Purse, rules: ChargeRules, *, today_cents: int, now_ms: int
) -> tuple[Purpose, int] | None:
    """Return why and how much, in cents, a card is to be charged now; None when it is not.

    `today_cents` is what was charged today or is under way. An account that owes, as after a
    dispute, is not charged by itself.
    """
    if not account.has_card or account.is_suspended or now_ms < account.next_try_unix_ms:
        return None
    if purse.debt_nusd:
        return None
    if account.is_postpaid:
        unbilled = unbilled_nusd(account, purse)
        left = rules.postpaid_day_cents - today_cents
        cents = min(cents_up_to(unbilled), left)
        is_low = purse.available_nusd * 100 < account.limit_nusd * rules.low_percent
        is_due = unbilled >= rules.threshold_nusd or is_low
        return (Purpose.POSTPAID, cents) if is_due and cents >= rules.charge_min_cents else None
    if not account.recharge_below_nusd:
        return None
    has = purse.available_nusd + purse.held_nusd
    fits = today_cents + account.recharge_cents <= account.recharge_day_cents
    if has >= account.recharge_below_nusd or not fits:
        return None
    return Purpose.RECHARGE, account.recharge_cents


def credit_limit_nusd(account: Account, rules: ChargeRules, *, paid_cents: int) -> int:
    """Return what an account may use before it pays; `paid_cents` is what it paid and kept paid."""
    if not account.is_postpaid or account.is_suspended:
        return 0
    grown = paid_cents * CENT_NUSD * rules.limit_growth_percent // 100
    return min(rules.limit_start_nusd + grown, max(rules.limit_max_nusd, rules.limit_start_nusd))


class Reversal(NamedTuple):
    """A refund or dispute as far as it is known."""

    kind: Undoing
    amount_cents: int
    status: str


def rank_of(kind: Undoing, status: str) -> int | None:
    """Return how far along a status is, None for one that is not known."""
    ranks = _REFUND_RANKS if kind is Undoing.REFUND else _DISPUTE_RANKS
    return ranks.get(status)


def reversed_cents(
    paid_cents: int, charge_refunded_cents: int, reversals: Iterable[Reversal]
) -> int:
    """Return how much of a payment is undone, from all that is known, in whatever order it came.

    A charge says what was refunded of it in all, also by refunds that fail later; single refunds
    say more exactly, once all of them are known. No more is undone than was paid.
    """
    single = failed = disputed = 0
    for kind, amount_cents, status in reversals:
        if kind is Undoing.DISPUTE:
            disputed += amount_cents if status in _TAKES_MONEY else 0
        elif status in _NOT_REVERSED:
            failed += amount_cents
        else:
            single += amount_cents
    refunded = max(single, charge_refunded_cents - failed)
    return min(paid_cents, refunded + disputed)
