"""What a batch of usage events does to the books.

Pure: takes events and the state they meet, gives rows and drafts. An event is applied once, by its
id; what an outcome costs is taken from its lease, and only when that no longer holds the money from
the balance. Orders that differ from the router's own (redelivery) lead to the same books.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final, NamedTuple

from services.payment.caps.beside import Beside, Uncapped, within
from services.payment.ledger import (
    ACCOUNT_ID_LENGTH_MAX,
    INVALID_OUTPUT,
    Draft,
    Kind,
    Split,
    available,
    balanced,
    capture,
    charges_hash,
    give_back,
    refund_fields,
    split_charge,
)
from services.payment.promos.marks import spend
from services.payment.suppliers.earnings import Earning, earning, earnings_draft
from turnpike.events.v1.events_pb2 import UsageBatch, UsageEvent

AMOUNT_NUSD_MAX: Final = 1_000_000_000_000_000
ID_LENGTH_MAX: Final = 200
BATCH_POSITION: Final = -1
_HOLDING: Final = (UsageEvent.KIND_INTENT, UsageEvent.KIND_CHECKPOINT)
_OUTCOME: Final = UsageEvent.KIND_OUTCOME


@dataclass(frozen=True, slots=True)
class Parcel:
    """A delivery of the usage stream; `batch` is None when its bytes could not be read."""

    stream_seq: int
    data: bytes
    batch: UsageBatch | None


class Claim(NamedTuple):
    """What this room reads of an event."""

    kind: int
    event_id: str
    request_id: str
    account_id: str
    key_id: str
    lease_id: str
    model_id: str
    deployment: str
    hold_nusd: int
    charge_nusd: int
    refund_nusd: int
    supplied_by: str


_read_claim: Final = attrgetter(*Claim._fields[:-1], "supply.provider")


class Charge(NamedTuple):
    """An outcome as it is charged; the fields are the first columns of `charges`, in order."""

    event_id: str
    request_id: str
    account_id: str
    key_id: str
    lease_id: str
    model_id: str
    deployment: str
    charge_nusd: int
    charged_nusd: int
    writeoff_nusd: int
    is_late: int
    stream_seq: int


_hashed: Final = attrgetter("event_id", "charge_nusd", "charged_nusd", "writeoff_nusd")


class Refund(NamedTuple):
    """What is given back of a charge; the fields are the first columns of `refunds`, in order.

    `refund_nusd` is what the event says, `refunded_nusd` what of it the customer had paid.
    """

    event_id: str
    account_id: str
    key_id: str
    reason: str
    refund_nusd: int
    refunded_nusd: int
    stream_seq: int
    unix_ms: int


class Hold(NamedTuple):
    """What a running request may cost; the fields are the columns of `holds`, in order."""

    request_id: str
    lease_id: str
    amount_nusd: int
    expires_at_unix_ms: int


@dataclass(slots=True)
class LeaseState:
    """A lease while a batch is planned; nano-USD."""

    account_id: str
    granted_nusd: int
    captured_nusd: int
    released_nusd: int

    @property
    def left_nusd(self) -> int:
        """What it still holds."""
        return self.granted_nusd - self.captured_nusd - self.released_nusd


@dataclass(frozen=True, slots=True)
class Known:
    """What is stored about a batch's events: settled outcomes, leases, balances to spend.

    Balances are by ledger account, `gifts` by customer. The plan changes all but those as it goes.
    """

    settled: set[str]
    leases: dict[str, LeaseState]
    available: dict[str, int]
    beside: Beside = field(default_factory=Uncapped)
    gifts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Something that cannot be applied; `position` is the event's, or -1 for the whole batch."""

    stream_seq: int
    position: int
    reason: str
    data: bytes


@dataclass(slots=True)
class Plan:
    """What to write; `posted` pairs drafts with their charges, `free` are those that cost nothing.

    `refunded` pairs drafts with their refunds; one without a draft gives back nothing that was
    paid. `earned` is owed to others, by one draft. `holds` are by request id, `spent` gifts by
    account, `outcomes` the events of what is new, by event id.
    """

    posted: list[tuple[Draft, list[Charge]]] = field(default_factory=list)
    free: list[Charge] = field(default_factory=list)
    refunded: list[tuple[Draft | None, list[Refund]]] = field(default_factory=list)
    earned: list[Earning] = field(default_factory=list)
    earned_draft: Draft | None = None
    spent: dict[str, int] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    outcomes: dict[str, UsageEvent] = field(default_factory=dict)
    drawn_leases: dict[str, LeaseState] = field(default_factory=dict)
    watermarks: dict[str, int] = field(default_factory=dict)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    duplicate_count: int = 0
    late_count: int = 0
    unknown_lease_count: int = 0

    @property
    def charges(self) -> list[Charge]:
        """Every charge."""
        return [*self.free, *(charge for _, charges in self.posted for charge in charges)]

    @property
    def refunds(self) -> list[Refund]:
        """Every refund."""
        return [refund for _, refunds in self.refunded for refund in refunds]


def outcome_id(request_id: str) -> str:
    """Return the event id of a request's one outcome."""
    return f"{request_id}:outcome"


def claims_of(parcel: Parcel) -> list[Claim]:
    """Read the events of a delivery; one that could not be read has none."""
    events = parcel.batch.events if parcel.batch is not None else ()
    return [Claim._make(_read_claim(event)) for event in events]


def flaw_of(claim: Claim) -> str | None:
    """Return why an event cannot be applied, None when it can."""
    is_outcome = claim.kind == _OUTCOME
    if not is_outcome and claim.kind not in _HOLDING:
        return "unknown kind"
    if not 0 < len(claim.request_id) <= ID_LENGTH_MAX:
        return "request_id is missing or too long"
    if not 0 < len(claim.account_id) <= ACCOUNT_ID_LENGTH_MAX:
        return "account_id is missing or too long"
    if not (
        0 <= claim.refund_nusd <= claim.charge_nusd <= AMOUNT_NUSD_MAX
        and 0 <= claim.hold_nusd <= AMOUNT_NUSD_MAX
    ):
        return "amount is out of range"
    if is_outcome and claim.event_id != outcome_id(claim.request_id):
        return "event_id is not the outcome's of its request"
    return None


def plan_batch(
    opened: Iterable[tuple[Parcel, Sequence[Claim]]],
    known: Known,
    *,
    reference: str,
    now_ms: int,
    hold_ttl_ms: int,
) -> Plan:
    """Return what deliveries with their claims, in stream order, change."""
    planner = _Planner(known, now_ms=now_ms, expires_at_ms=now_ms + hold_ttl_ms)
    for parcel, claims in opened:
        planner.take(parcel, claims)
    planner.plan.posted = list(planner.drafts(reference))
    planner.plan.refunded = list(planner.refund_drafts(reference))
    planner.plan.earned_draft = earnings_draft(planner.plan.earned, reference, now_ms)
    return planner.plan


class _Planner:
    def __init__(self, known: Known, *, now_ms: int, expires_at_ms: int) -> None:
        self.plan = Plan()
        self._bills: defaultdict[str, list[Charge]] = defaultdict(list)
        self._refunds: defaultdict[str, list[Refund]] = defaultdict(list)
        self._from_available: defaultdict[str, int] = defaultdict(int)
        self._known = known
        self._now_ms = now_ms
        self._expires_at_ms = expires_at_ms

    def take(self, parcel: Parcel, claims: Sequence[Claim]) -> None:
        if parcel.batch is None:
            self._bury(parcel, BATCH_POSITION, "unreadable batch")
            return
        if parcel.batch.router_id:
            self.plan.watermarks[parcel.batch.router_id] = parcel.batch.watermark_unix_ms
        for position, claim in enumerate(claims):
            flaw = flaw_of(claim)
            if flaw is not None:
                self._bury(parcel, position, flaw)
            elif claim.kind == _OUTCOME:
                if (charge := self._settle(claim, parcel.stream_seq)) is not None:
                    event = self.plan.outcomes[claim.event_id] = parcel.batch.events[position]
                    if claim.supplied_by:
                        self._earn(charge, event, parcel, position)
            else:
                self._name_hold(claim)

    def _bury(self, parcel: Parcel, position: int, reason: str) -> None:
        batch = parcel.batch
        data = parcel.data if batch is None else batch.events[position].SerializeToString()
        self.plan.dead_letters.append(DeadLetter(parcel.stream_seq, position, reason, data))

    def _name_hold(self, claim: Claim) -> None:
        request_id, lease_id = claim.request_id, claim.lease_id
        lease = self._known.leases.get(lease_id)
        if outcome_id(request_id) in self._known.settled or not claim.hold_nusd:
            return
        if lease is None or not lease.left_nusd:
            return
        hold = Hold(request_id, lease_id, claim.hold_nusd, self._expires_at_ms)
        self.plan.holds[request_id] = hold

    def _settle(self, claim: Claim, stream_seq: int) -> Charge | None:
        # fmt: off
        (
            _, event_id, request_id, account_id, key_id, lease_id, model_id, deployment,
            hold_nusd, charge_nusd, refund_nusd, _,
        ) = claim
        # fmt: on
        plan, settled = self.plan, self._known.settled
        if event_id in settled:
            plan.duplicate_count += 1
            return None
        settled.add(event_id)
        if plan.holds:
            plan.holds.pop(request_id, None)
        charged_nusd, writeoff_nusd, is_late = charge_nusd, 0, 0
        lease = None
        if charge_nusd:
            lease = self._known.leases.get(lease_id)
            if lease is None or lease.account_id != account_id:
                plan.unknown_lease_count += 1
                lease = None
            if lease and charge_nusd <= hold_nusd and charge_nusd <= lease.left_nusd:
                # Nearly always the lease has it all.
                lease.captured_nusd += charge_nusd
                plan.drawn_leases[lease_id] = lease
            else:
                charged_nusd, writeoff_nusd, is_late = self._take_apart(claim, lease)
        # fmt: off
        fields = (
            event_id, request_id, account_id, key_id, lease_id, model_id, deployment,
            charge_nusd, charged_nusd, writeoff_nusd, is_late, stream_seq,
        )
        # fmt: on
        charges = self._bills[account_id] if charge_nusd else plan.free
        charge = tuple.__new__(Charge, fields)
        charges.append(charge)
        if refund_nusd:
            self._refund(claim, charged_nusd, stream_seq, is_of_lease=lease is not None)
        return charge

    def _earn(self, charge: Charge, event: UsageEvent, parcel: Parcel, position: int) -> None:
        """Note what others are owed; terms that cannot be booked do not hold up the charge."""
        found = earning(charge, event.supply, event.refund_nusd, self._now_ms)
        if isinstance(found, Earning):
            self.plan.earned.append(found)
        else:
            self._bury(parcel, position, found)

    def _refund(
        self, claim: Claim, charged_nusd: int, stream_seq: int, *, is_of_lease: bool
    ) -> None:
        """Note a refund; what was written off was never paid and is not given back."""
        refunded_nusd = min(claim.refund_nusd, charged_nusd)
        if is_of_lease and refunded_nusd:
            self._known.beside.give_back(claim, refunded_nusd)
        self._refunds[claim.account_id].append(
            Refund(
                event_id=claim.event_id,
                account_id=claim.account_id,
                key_id=claim.key_id,
                reason=INVALID_OUTPUT,
                refund_nusd=claim.refund_nusd,
                refunded_nusd=refunded_nusd,
                stream_seq=stream_seq,
                unix_ms=self._now_ms,
            )
        )

    def _take_apart(self, claim: Claim, lease: LeaseState | None) -> tuple[int, int, int]:
        """Take a charge from wherever there is money; return what is charged, lost, and late."""
        purse = available(claim.account_id)
        split = split_charge(
            claim.charge_nusd,
            hold_nusd=claim.hold_nusd,
            lease_left_nusd=lease.left_nusd if lease else 0,
            available_nusd=max(0, self._known.available.get(purse, 0)),
        )
        if lease and split.from_held_nusd:
            lease.captured_nusd += split.from_held_nusd
            self.plan.drawn_leases[claim.lease_id] = lease
        if split.from_available_nusd:
            split = within(self._known.beside, claim, split, is_of_lease=lease is not None)
            self._known.available[purse] -= split.from_available_nusd
            self._from_available[claim.account_id] += split.from_available_nusd
        is_late = split.from_available_nusd > 0 or (
            split.writeoff_nusd > 0 and split.charged_nusd < claim.hold_nusd
        )
        self.plan.late_count += is_late
        return split.charged_nusd, split.writeoff_nusd, int(is_late)

    def drafts(self, reference: str) -> Iterator[tuple[Draft, list[Charge]]]:
        """Yield one transaction for each account that is charged, with its charges."""
        for account_id, charges in sorted(self._bills.items()):
            from_available_nusd = self._from_available[account_id]
            total = Split(
                sum(charge.charged_nusd for charge in charges) - from_available_nusd,
                from_available_nusd,
                sum(charge.writeoff_nusd for charge in charges),
            )
            detail = charges_hash(map(_hashed, charges))
            postings = capture(account_id, total)
            if gift_nusd := self._known.gifts.get(account_id, 0):
                refunded_nusd = sum(r.refunded_nusd for r in self._refunds.get(account_id, ()))
                used_nusd = min(gift_nusd, total.charged_nusd - refunded_nusd)
                self.plan.spent[account_id] = used_nusd
                postings = balanced(*postings, *spend(account_id, used_nusd))
            yield Draft(Kind.SETTLEMENT, reference, self._now_ms, postings, detail), charges

    def refund_drafts(self, reference: str) -> Iterator[tuple[Draft | None, list[Refund]]]:
        """Yield one transaction for each account that gets something back, with its refunds.

        They are posted behind the charges: what is given back can be spent from the next batch on.
        """
        for account_id, refunds in sorted(self._refunds.items()):
            paid = [refund for refund in refunds if refund.refunded_nusd]
            if unpaid := [refund for refund in refunds if not refund.refunded_nusd]:
                yield None, unpaid
            if paid:
                total_nusd = sum(refund.refunded_nusd for refund in paid)
                postings = give_back(account_id, total_nusd, reason=INVALID_OUTPUT)
                detail = charges_hash(refund_fields(refund._asdict()) for refund in paid)
                yield Draft(Kind.REFUND, reference, self._now_ms, postings, detail), paid
