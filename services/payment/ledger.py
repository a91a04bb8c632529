"""The arithmetic of the books: ledger accounts, postings, how a charge is split, and the chains.

Pure: no I/O, no clock. A customer's positive balance is what the owner owes that customer; debt is
a negative balance. Amounts are nano-USD.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

REVENUE: Final = "revenue"
WRITEOFF: Final = "writeoff"
INVALID_OUTPUT: Final = "invalid_output"
"""Why a charge is given back: the answer broke the constraint it was asked for."""
GENESIS_HASH: Final = bytes(32)
ACCOUNT_ID_LENGTH_MAX: Final = 128
DEBTS: Final = "customer:%:debt"
"""SQL pattern of the ledger accounts of what customers owe."""
_CUSTOMER: Final = "customer:"
_REFUND: Final = "refund:"


class Kind(StrEnum):
    """Why a transaction was posted."""

    CREDIT = "credit"
    LEASE = "lease"
    RETURN = "return"
    SETTLEMENT = "settlement"
    REFUND = "refund"
    EXPIRY = "expiry"
    EARNING = "earning"
    PAYOUT = "payout"
    VOUCHER = "voucher"
    TRANSFER = "transfer"
    CHAIN = "chain"
    REVERSAL = "reversal"
    CREDIT_LIMIT = "credit_limit"
    OFFSET = "offset"


def available(account_id: str) -> str:
    """Return the ledger account of what a customer can spend."""
    return f"{_CUSTOMER}{account_id}:available"


def held(account_id: str) -> str:
    """Return the ledger account of what a customer has in leases and holds."""
    return f"{_CUSTOMER}{account_id}:held"


def debt(account_id: str) -> str:
    """Return the ledger account of what a customer owes; its balance is never above zero."""
    return f"{_CUSTOMER}{account_id}:debt"


def funding(source: str) -> str:
    """Return the ledger account that credits of one source come from."""
    return f"funding:{source}"


def refund(reason: str) -> str:
    """Return the ledger account that refunds for one reason come from; revenue stays gross."""
    return f"{_REFUND}{reason}"


def is_refund(ledger_account: str) -> bool:
    """Return whether refunds come from a ledger account."""
    return ledger_account.startswith(_REFUND)


def customer_of(ledger_account: str) -> str | None:
    """Return the customer account a ledger account belongs to, None for the owner's own."""
    if not ledger_account.startswith(_CUSTOMER):
        return None
    return ledger_account[len(_CUSTOMER) :].rpartition(":")[0]


@dataclass(frozen=True, slots=True)
class Posting:
    """One line of a transaction: an amount that a ledger account gains, or loses when negative."""

    ledger_account: str
    amount_nusd: int


@dataclass(frozen=True, slots=True)
class Draft:
    """A transaction before it has a place in the chain.

    `kind` is a `Kind`; `reference` names what caused it; `detail_hash` covers rows kept beside it
    (charges), so that the chain proves them too, and is empty when there are none.
    """

    kind: str
    reference: str
    unix_ms: int
    postings: tuple[Posting, ...]
    detail_hash: bytes = b""

    def customers(self) -> tuple[str, ...]:
        """Return the customer accounts it touches, by name."""
        found = {customer_of(posting.ledger_account) for posting in self.postings}
        return tuple(sorted(name for name in found if name is not None))

    def charged_nusd(self) -> int:
        """Return what it takes from customers for use; a refund takes less than nothing."""
        return sum(
            posting.amount_nusd
            for posting in self.postings
            if posting.ledger_account in {REVENUE, WRITEOFF} or is_refund(posting.ledger_account)
        )


class Split(NamedTuple):
    """Where a charge is taken from; what the customer pays is the first two."""

    from_held_nusd: int
    from_available_nusd: int
    writeoff_nusd: int

    @property
    def charged_nusd(self) -> int:
        """What the customer pays."""
        return self.from_held_nusd + self.from_available_nusd


def split_charge(
    charge_nusd: int, *, hold_nusd: int, lease_left_nusd: int, available_nusd: int
) -> Split:
    """Split a charge: from the lease, then, when that is gone, from the balance, the rest lost.

    The customer never pays above the hold.
    """
    payable = min(charge_nusd, hold_nusd)
    from_held = min(payable, lease_left_nusd)
    from_available = min(payable - from_held, available_nusd)
    return Split(from_held, from_available, charge_nusd - from_held - from_available)


def capture(account_id: str, split: Split) -> tuple[Posting, ...]:
    """Return the postings of one or more charges of an account."""
    return balanced(
        Posting(held(account_id), -split.from_held_nusd),
        Posting(available(account_id), -split.from_available_nusd),
        Posting(REVENUE, split.charged_nusd + split.writeoff_nusd),
        Posting(WRITEOFF, -split.writeoff_nusd),
    )


def give_back(account_id: str, amount_nusd: int, *, reason: str) -> tuple[Posting, ...]:
    """Return the postings that refund what an account was charged."""
    return balanced(
        Posting(available(account_id), amount_nusd), Posting(refund(reason), -amount_nusd)
    )


def grant(account_id: str, amount_nusd: int) -> tuple[Posting, ...]:
    """Return the postings that move part of a balance into a lease."""
    return balanced(
        Posting(available(account_id), -amount_nusd), Posting(held(account_id), amount_nusd)
    )


def release(account_id: str, amount_nusd: int) -> tuple[Posting, ...]:
    """Return the postings that move part of a lease back to the balance."""
    return grant(account_id, -amount_nusd)


def credit(
    account_id: str, amount_nusd: int, *, source: str, debt_nusd: int
) -> tuple[Posting, ...]:
    """Return the postings of a credit; it pays what is owed first. `debt_nusd` is positive."""
    repaid = min(amount_nusd, debt_nusd)
    return balanced(
        Posting(funding(source), -amount_nusd),
        Posting(debt(account_id), repaid),
        Posting(available(account_id), amount_nusd - repaid),
    )


def take_back(
    account_id: str, amount_nusd: int, *, source: str, available_nusd: int
) -> tuple[Posting, ...]:
    """Return the postings that undo a credit: from what is available, the rest becomes debt."""
    taken = min(amount_nusd, max(0, available_nusd))
    return balanced(
        Posting(funding(source), amount_nusd),
        Posting(available(account_id), -taken),
        Posting(debt(account_id), taken - amount_nusd),
    )


def offset(account_id: str, amount_nusd: int) -> tuple[Posting, ...]:
    """Return the postings that pay debt from the balance."""
    return balanced(
        Posting(available(account_id), -amount_nusd), Posting(debt(account_id), amount_nusd)
    )


def lease_size(
    *, need_nusd: int, want_nusd: int, available_nusd: int, share: int, lease_max_nusd: int
) -> int:
    """Return how much to lease: a share of a large balance, exactly the need of a small one."""
    return max(need_nusd, min(want_nusd, available_nusd // share, lease_max_nusd))


def balanced(*postings: Posting) -> tuple[Posting, ...]:
    """Return postings in canonical form: one per ledger account, by name, none of zero.

    Raises:
        ValueError: They do not sum to zero.
    """
    sums: defaultdict[str, int] = defaultdict(int)
    for posting in postings:
        sums[posting.ledger_account] += posting.amount_nusd
    if total := sum(sums.values()):
        raise ValueError(f"Postings sum to {total}; 0 is required.")
    return tuple(Posting(name, sums[name]) for name in sorted(sums) if sums[name])


def canonical_bytes(seq: int, draft: Draft) -> bytes:
    """Return the bytes of a transaction that its hash covers: length-prefixed fields in order."""
    fields = [str(seq), draft.kind, draft.reference, str(draft.unix_ms), draft.detail_hash.hex()]
    for posting in draft.postings:
        fields += (posting.ledger_account, str(posting.amount_nusd))
    return _framed(fields)


def transaction_hash(previous: bytes, seq: int, draft: Draft) -> bytes:
    """Return a transaction's hash, chained to the one before."""
    return hashlib.sha256(previous + canonical_bytes(seq, draft)).digest()


def account_hash(previous: bytes, account_seq: int, of_transaction: bytes) -> bytes:
    """Return the next hash of a customer account's own chain."""
    return hashlib.sha256(previous + account_seq.to_bytes(8, "big") + of_transaction).digest()


def charges_hash(rows: Iterable[tuple[str, int, int, int]]) -> bytes:
    """Return the hash over charges (event id, charge, charged, written off), in any order."""
    # Framed as `_framed` does, at half its price: this runs once for every charge.
    parts = []
    for event_id, charge_nusd, charged_nusd, writeoff_nusd in sorted(rows):
        one, two, three = str(charge_nusd), str(charged_nusd), str(writeoff_nusd)
        head = f"{len(event_id.encode())}:{event_id}"
        parts.append(f"{head}{len(one)}:{one}{len(two)}:{two}{len(three)}:{three}")
    return hashlib.sha256("".join(parts).encode()).digest()


def charge_fields(row: Mapping[str, Any]) -> tuple[str, int, int, int]:
    """Return what a transaction's detail hash covers of a charge."""
    return row["event_id"], row["charge_nusd"], row["charged_nusd"], row["writeoff_nusd"]


def refund_fields(row: Mapping[str, Any]) -> tuple[str, int, int, int]:
    """Return what a transaction's detail hash covers of a refund."""
    refund_nusd, refunded_nusd = row["refund_nusd"], row["refunded_nusd"]
    return row["event_id"], refund_nusd, refunded_nusd, refund_nusd - refunded_nusd


def _framed(fields: Iterable[str]) -> bytes:
    parts = [field.encode() for field in fields]
    return b"".join(b"%d:%b" % (len(part), part) for part in parts)
