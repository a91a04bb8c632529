"""Promotional credit as a mark on a balance: what of it was a gift. Pure.

Gifts are spent like any other credit, from the same balance and the same leases; beside them the
ledger keeps how much of the balance is a gift still, and what gifts have paid for. A charge uses
gifts up first. Nothing is paid out or refunded from a mark: a refund puts back what was paid and,
as charge and refund of one request are netted, never turns a gift into money.
"""

from typing import Final

from services.payment.ledger import Posting, available, balanced, debt, funding

PROMO: Final = "promo"
NEVER_UNIX_MS: Final = 253_402_300_799_999
"""When a gift without an end ends: the last moment of the year 9999."""
GRANTED: Final = "promo:granted"
"""Where marks come from, and where those that ended go back to."""
SPENT: Final = "promo:spent"
"""What gifts have paid for: revenue that is no cash."""


def mark(account_id: str) -> str:
    """Return the ledger account of what of a balance is a gift; never below zero."""
    return f"customer:{account_id}:promo"


def give(account_id: str, amount_nusd: int, *, debt_nusd: int) -> tuple[Posting, ...]:
    """Return the postings of a gift; what pays a debt is spent at once. `debt_nusd` is positive."""
    repaid = min(amount_nusd, debt_nusd)
    return balanced(
        Posting(funding(PROMO), -amount_nusd),
        Posting(debt(account_id), repaid),
        Posting(available(account_id), amount_nusd - repaid),
        Posting(GRANTED, -amount_nusd),
        Posting(mark(account_id), amount_nusd - repaid),
        Posting(SPENT, repaid),
    )


def spend(account_id: str, amount_nusd: int) -> tuple[Posting, Posting]:
    """Return the postings that use gifts up, to be added to those of the charge."""
    return Posting(mark(account_id), -amount_nusd), Posting(SPENT, amount_nusd)


def end(account_id: str, amount_nusd: int) -> tuple[Posting, ...]:
    """Return the postings that take a gift back that was not used in time."""
    return balanced(
        Posting(available(account_id), -amount_nusd),
        Posting(funding(PROMO), amount_nusd),
        Posting(mark(account_id), -amount_nusd),
        Posting(GRANTED, amount_nusd),
    )
