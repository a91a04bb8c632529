"""What machine payments do to the books: postings of vouchers, transfers and what the chain pays.

Pure. `tempo_escrow:<channel>` is what the chain holds for us and was promised by vouchers;
`tempo_settled` is what it has paid out. Both are below zero as every asset in these books is: a
customer's balance is what the owner owes. 1 base unit is 1,000 nano-USD.
"""

from typing import Final

from services.payment.ledger import Posting, available, balanced

NUSD_PER_BASE_UNIT: Final = 1_000
SETTLED: Final = "tempo_settled"
ROUNDING: Final = "revenue:rounding"
LOST: Final = "writeoff:chain"
"""What was spent on a channel whose payer closed it before the chain paid for that."""
_PREFIX: Final = "tempo:"


def account_of(subject: str) -> str:
    """Return the customer account of a channel or of a payer's address."""
    return f"{_PREFIX}{subject}"


def subject_of(account_id: str) -> str:
    """Return the channel or address of a machine's account; empty for any other."""
    return account_id.removeprefix(_PREFIX) if account_id.startswith(_PREFIX) else ""


def escrow(channel_id: str) -> str:
    """Return the ledger account of what a channel holds for us."""
    return f"tempo_escrow:{channel_id}"


def base_units_up(amount_nusd: int) -> int:
    """Return nano-USD as base units, rounded up."""
    return -(-amount_nusd // NUSD_PER_BASE_UNIT)


def promised(channel_id: str, increment: int) -> tuple[Posting, ...]:
    """Return the postings of a voucher that promises `increment` base units more."""
    amount_nusd = increment * NUSD_PER_BASE_UNIT
    return balanced(
        Posting(escrow(channel_id), -amount_nusd),
        Posting(available(account_of(channel_id)), amount_nusd),
    )


def settled(channel_id: str, increment: int) -> tuple[Posting, ...]:
    """Return the postings of `increment` base units that the chain paid out of a channel."""
    amount_nusd = increment * NUSD_PER_BASE_UNIT
    return balanced(Posting(escrow(channel_id), amount_nusd), Posting(SETTLED, -amount_nusd))


def closed(
    channel_id: str, *, accepted: int, captured: int, settled_before: int, available_nusd: int
) -> tuple[Posting, ...]:
    """Return the postings of a close that captured so many base units in all.

    What was promised and not captured goes back; what the rounding up to a base unit took of the
    balance is a gain of its own, below one base unit. What was spent and not captured is lost.

    Raises:
        ValueError: More was captured than was spent.
    """
    unspent_nusd = (accepted - captured) * NUSD_PER_BASE_UNIT
    over_nusd = unspent_nusd - available_nusd
    if over_nusd <= -NUSD_PER_BASE_UNIT:
        raise ValueError(f"{-over_nusd} nUSD more would be captured than was spent.")
    paid_nusd = (captured - settled_before) * NUSD_PER_BASE_UNIT
    return balanced(
        Posting(available(account_of(channel_id)), -available_nusd),
        Posting(escrow(channel_id), unspent_nusd + paid_nusd),
        Posting(SETTLED, -paid_nusd),
        Posting(LOST if over_nusd > 0 else ROUNDING, -over_nusd),
    )


def transferred(payer: str, amount: int) -> tuple[Posting, ...]:
    """Return the postings of a transfer of so many base units from a payer."""
    amount_nusd = amount * NUSD_PER_BASE_UNIT
    return balanced(
        Posting(SETTLED, -amount_nusd), Posting(available(account_of(payer)), amount_nusd)
    )


def sent_back(payer: str, amount: int) -> tuple[Posting, ...]:
    """Return the postings of a payment of so many base units back to a payer."""
    amount_nusd = amount * NUSD_PER_BASE_UNIT
    return balanced(
        Posting(SETTLED, amount_nusd), Posting(available(account_of(payer)), -amount_nusd)
    )
