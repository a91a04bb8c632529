"""What a settled outcome is owed to suppliers and providers, and how that is posted.

Pure: no I/O, no clock. A supplier earns its part of what a customer really paid, or what its cost
row says; a provider is owed its cost, whatever the customer paid. Amounts are nano-USD.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from services.payment.ledger import REVENUE, Draft, Kind, Posting, balanced
from turnpike.events.v1 import events_pb2

COST_NUSD_MAX: Final = 1_000_000_000_000_000
_WHOLE_BPS: Final = 10_000
_PROVIDER_LENGTH_MAX: Final = 200
_SUPPLIER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_OF_SUPPLIER: Final = "supplier:"
_OF_PROVIDER: Final = "provider:"


class Earning(NamedTuple):
    """What one outcome is owed; the fields are the first columns of `earnings`, in order.

    `paid_nusd` is what the customer paid and did not get back. `fee_bps` is None where a cost row
    decides, and then `cost_nusd` is what that comes to. `supplier_id` is empty where the provider
    is owed.
    """

    event_id: str
    supplier_id: str
    provider: str
    model_id: str
    paid_nusd: int
    cost_nusd: int
    fee_bps: int | None
    owed_nusd: int
    stream_seq: int
    unix_ms: int


def earned(supplier_id: str) -> str:
    """Return the ledger account of what a supplier is owed; never below zero."""
    return f"{_OF_SUPPLIER}{supplier_id}:earned"


def payable(provider: str) -> str:
    """Return the ledger account of what a provider is owed; never below zero."""
    return f"provider_payable:{provider}"


def cost(provider: str) -> str:
    """Return the ledger account of what a provider's answers have cost the owner."""
    return f"provider_cost:{provider}"


def payouts(rail: str) -> str:
    """Return the ledger account that payouts by one rail go to."""
    return f"payouts:{rail}"


def payee_account(payee_id: str) -> str | None:
    """Return the ledger account of `supplier:<id>` or `provider:<name>`, None for neither."""
    if payee_id.startswith(_OF_SUPPLIER) and is_supplier_id(payee_id[len(_OF_SUPPLIER) :]):
        return earned(payee_id[len(_OF_SUPPLIER) :])
    if payee_id.startswith(_OF_PROVIDER) and _is_provider(payee_id[len(_OF_PROVIDER) :]):
        return payable(payee_id[len(_OF_PROVIDER) :])
    return None


def payee_of(ledger_account: str) -> str:
    """Return `supplier:<id>` or `provider:<name>` for a ledger account of what is owed."""
    if ledger_account.startswith(_OF_SUPPLIER):
        return ledger_account.rpartition(":")[0]
    return _OF_PROVIDER + ledger_account.partition(":")[2]


def is_supplier_id(text: str) -> bool:
    """Return whether a text can name a supplier."""
    return _SUPPLIER.fullmatch(text) is not None


def flaw_of(supply: events_pb2.Supply) -> str | None:
    """Return why the terms of an event cannot be booked, None when they can."""
    supplier_id = supply.supplier_id
    if not _is_provider(supply.provider):
        return "supply.provider is not printable or too long"
    if supplier_id and not is_supplier_id(supplier_id):
        return "supply.supplier_id is none"
    if not (supplier_id or supply.HasField("cost")):
        return "supply has neither a supplier nor a cost"
    if not (0 <= supply.fee_bps <= _WHOLE_BPS and 0 <= supply.cost_nusd <= COST_NUSD_MAX):
        return "supply has an amount that is out of range"
    return None


def owed_nusd(
    *, paid_nusd: int, cost_nusd: int, fee_bps: int | None, is_refused_supply: bool
) -> int:
    """Return what is owed for an outcome, rounded down where it is a share.

    `is_refused_supply` says that a supplier's answer was given back to the customer: it earns
    nothing, whatever its cost row says.
    """
    if fee_bps is not None:
        return paid_nusd * (_WHOLE_BPS - fee_bps) // _WHOLE_BPS
    return 0 if is_refused_supply else cost_nusd


class Settled(Protocol):
    """What is read of a settled charge."""

    @property
    def event_id(self) -> str: ...  # noqa: D102 - named as in `Charge`
    @property
    def model_id(self) -> str: ...  # noqa: D102
    @property
    def charged_nusd(self) -> int: ...  # noqa: D102
    @property
    def stream_seq(self) -> int: ...  # noqa: D102


def earning(
    charge: Settled, supply: events_pb2.Supply, refund_nusd: int, unix_ms: int
) -> Earning | str:
    """Return what an outcome is owed, or why its terms cannot be booked.

    `refund_nusd` is what the event gives back of the charge.
    """
    if (flaw := flaw_of(supply)) is not None:
        return flaw
    fee_bps = None if supply.HasField("cost") else supply.fee_bps
    cost_nusd = 0 if fee_bps is not None else supply.cost_nusd
    paid_nusd = charge.charged_nusd - min(refund_nusd, charge.charged_nusd)
    owed = owed_nusd(
        paid_nusd=paid_nusd,
        cost_nusd=cost_nusd,
        fee_bps=fee_bps,
        is_refused_supply=refund_nusd > 0 and bool(supply.supplier_id),
    )
    return Earning(
        charge.event_id,
        supply.supplier_id,
        supply.provider,
        charge.model_id,
        paid_nusd,
        cost_nusd,
        fee_bps,
        owed,
        charge.stream_seq,
        unix_ms,
    )


def earnings_draft(rows: Sequence[Earning], reference: str, now_ms: int) -> Draft | None:
    """Return the one transaction of a batch's earnings, None when nothing is owed."""
    owed = [row for row in rows if row.owed_nusd]
    if not owed:
        return None
    detail = earnings_hash(row[:HASHED_COUNT] for row in owed)
    return Draft(Kind.EARNING, reference, now_ms, earnings_postings(owed), detail)


def earnings_postings(rows: Iterable[Earning]) -> tuple[Posting, ...]:
    """Return who bears and who is owed what earnings come to."""
    sums: defaultdict[tuple[str, str, bool], int] = defaultdict(int)
    for _, supplier_id, provider, _, _, _, fee_bps, owed, _, _ in rows:
        sums[supplier_id, provider, fee_bps is None] += owed
    lines: list[Posting] = []
    for (supplier_id, provider, is_cost), owed in sums.items():
        payee = earned(supplier_id) if supplier_id else payable(provider)
        lines += (
            Posting(cost(provider) if is_cost else REVENUE, -owed),
            Posting(payee, owed),
        )
    return balanced(*lines)


HASHED_COUNT: Final = 8
"""How many of an earning's fields its hash covers: all it was computed from and came to."""


def earnings_hash(rows: Iterable[tuple[Any, ...]]) -> bytes:
    """Return the hash over the first `HASHED_COUNT` fields of earnings, in any order of rows."""
    # Names are framed by their length; figures need no frame, as they hold no comma.
    parts = [
        f"{len(event)}:{event}{len(who)}:{who}{len(by)}:{by}{len(model)}:{model}"
        f"{paid},{cost},{fee},{owed};"
        for event, who, by, model, paid, cost, fee, owed in rows
    ]
    parts.sort()
    return hashlib.sha256("".join(parts).encode()).digest()


def _is_provider(text: str) -> bool:
    return 0 < len(text) <= _PROVIDER_LENGTH_MAX and text.isprintable()
