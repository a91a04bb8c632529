"""A payment store on a database of its own with a clock that stands still, and a metering fake."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

from kit.clock import ManualClock
from kit.db import Database, open_database
from services.payment.batch import Parcel
from services.payment.caps.store import CapStore, Changed, Wish, cap_name
from services.payment.caps.windows import CapName, Scope, Window
from services.payment.promos.store import PromoTerms
from services.payment.room import MIGRATIONS
from services.payment.settings import PaymentSettings
from services.payment.settlement import USAGE
from services.payment.store import PaymentStore
from services.payment.store_engine import Transactions, open_transactions
from services.payment.store_leases import Grant, LeaseTerms
from services.payment.store_settlement import Applied
from services.payment.store_tables import METADATA
from services.payment.verify import Verifier
from tests.fixtures.migrated import migrate
from turnpike.events.v1.events_pb2 import Supply, UsageBatch, UsageEvent
from turnpike.metering.v1 import metering_pb2
from turnpike.payment.v1 import payment_pb2 as pb
from turnpike.type.v1.usage_pb2 import Price

ROUTER = "router-1"


@dataclass
class FakeMetering:
    """Metering as verification sees it: charges by event id, two to a page."""

    charges: dict[str, metering_pb2.Charge] = field(default_factory=dict)
    applied_seq: int = 0

    def store(self, parcel: Parcel) -> None:
        """Store what metering would store of a delivery."""
        self.applied_seq = max(self.applied_seq, parcel.stream_seq)
        for event in parcel.batch.events if parcel.batch is not None else ():
            if event.kind == UsageEvent.KIND_OUTCOME and event.event_id not in self.charges:
                self.charges[event.event_id] = metering_pb2.Charge(
                    event_id=event.event_id,
                    account_id=event.account_id,
                    charge_nusd=event.charge_nusd,
                    refund_nusd=event.refund_nusd,
                    stream_seq=parcel.stream_seq,
                )

    async def ListCharges(
        self, request: metering_pb2.ListChargesRequest, *, timeout: float
    ) -> metering_pb2.ListChargesResponse:
        """Return a page, by event id."""
        assert timeout > 0
        names = sorted(name for name in self.charges if name > request.page_token)
        page = [self.charges[name] for name in names[:2]]
        return metering_pb2.ListChargesResponse(
            charges=page,
            next_page_token=names[1] if len(names) > 2 else "",
            applied_stream_seq=self.applied_seq,
        )


@dataclass
class Rig:
    """A store and everything a test turns to play with it."""

    database: Database
    transactions: Transactions
    store: PaymentStore
    caps: CapStore
    clock: ManualClock
    settings: PaymentSettings
    metering: FakeMetering
    ids: Iterator[int]
    seqs: Iterator[int]

    def new_id(self) -> str:
        """Return the next id; equal runs give equal ids."""
        return f"id-{next(self.ids):06d}"

    async def credit(self, account_id: str, amount_nusd: int) -> dict[str, int]:
        """Credit an account."""
        return await self.store.credit(
            account_id=account_id,
            amount_nusd=amount_nusd,
            source="manual",
            request_id=self.new_id(),
        )

    async def give(
        self, account_id: str, amount_nusd: int, *, ends_at_unix_ms: int = 0
    ) -> dict[str, int]:
        """Give promotional credit."""
        terms = PromoTerms(account_id, amount_nusd, ends_at_unix_ms, self.new_id())
        return await self.store.give(terms)

    async def lease(self, account_id: str, need_nusd: int, want_nusd: int = 0) -> tuple[str, int]:
        """Lease, and fail the test when there is a shortage."""
        lease = await self.store.lease(self.terms(account_id, need_nusd, want_nusd))
        assert isinstance(lease, Grant)
        return lease.lease_id, lease.granted_nusd

    def terms(
        self,
        account_id: str,
        need_nusd: int,
        want_nusd: int = 0,
        *,
        key_id: str = "key",
        episode_id: str = "",
    ) -> LeaseTerms:
        """Return what a gateway asks for."""
        name = self.new_id()
        return LeaseTerms(account_id, key_id, "gateway", need_nusd, want_nusd, name, episode_id)

    async def cap(
        self, name: CapName, limit_nusd: int, *, key_id: str = "", is_tightening_only: bool = False
    ) -> Changed:
        """Set a cap."""
        return await self.caps.set(
            Wish(name, limit_nusd, self.new_id(), is_tightening_only, key_id)
        )

    async def give_back(self, lease_id: str, undrawn_nusd: int) -> int:
        """Return part of a lease."""
        _, amount = await self.store.give_back(
            lease_id=lease_id, undrawn_nusd=undrawn_nusd, request_id=self.new_id()
        )
        return amount

    def parcel(self, *events: UsageEvent, watermark_unix_ms: int | None = None) -> Parcel:
        """Return events as the next delivery of the stream."""
        moment = self.clock.unix_ms() if watermark_unix_ms is None else watermark_unix_ms
        batch = UsageBatch(router_id=ROUTER, watermark_unix_ms=moment, events=events)
        return Parcel(next(self.seqs), batch.SerializeToString(), batch)

    async def settle(self, *events: UsageEvent) -> Applied:
        """Deliver events to payment and to metering."""
        return await self.deliver(self.parcel(*events))

    async def deliver(self, *parcels: Parcel) -> Applied:
        """Deliver parcels to payment and to metering."""
        for parcel in parcels:
            self.metering.store(parcel)
        return await self.store.settle(parcels, stream=USAGE)

    async def verify(self) -> pb.VerifyLedgerResponse:
        """Verify the ledger."""
        verifier = Verifier(self.store, self.metering, settings=self.settings)  # type: ignore[arg-type]
        return await verifier.verify()

    async def balances(self) -> dict[str, int]:
        """Return every ledger account's balance."""
        return dict(await self.store.balances(after="", count_max=10_000))

    async def balance(self, account_id: str) -> tuple[int, int, int]:
        """Return what is available, held and charged."""
        found = await self.store.balance(account_id)
        return found["available_nusd"], found["held_nusd"], found["charged_nusd"]


@asynccontextmanager
async def open_rig(url: str, *, is_migrated: bool = False) -> AsyncIterator[Rig]:
    """Open a rig on an empty database, or on one that is migrated already."""
    if not is_migrated:
        await migrate(url, MIGRATIONS, METADATA)
    settings = PaymentSettings(
        lease_max_nusd=1_000, hold_ttl_s=10.0, router_gone_s=60.0, verify_page_max=3
    )
    clock, ids = ManualClock(), count(1)
    async with (
        open_database(url) as database,
        open_transactions(database, settings=settings) as transactions,
    ):
        store = PaymentStore(
            transactions, settings, clock=clock, new_id=lambda _: f"lease-{next(ids):06d}"
        )
        caps = CapStore(transactions, settings, clock=clock)
        metering = FakeMetering()
        yield Rig(database, transactions, store, caps, clock, settings, metering, ids, count(1))


def intent(request_id: str, lease_id: str, hold_nusd: int, account_id: str = "a") -> UsageEvent:
    """Return the event that names a hold."""
    return UsageEvent(
        event_id=f"{request_id}:intent",
        kind=UsageEvent.KIND_INTENT,
        request_id=request_id,
        account_id=account_id,
        key_id="key",
        lease_id=lease_id,
        hold_nusd=hold_nusd,
    )


def checkpoint(request_id: str, lease_id: str, hold_nusd: int, number: int = 1) -> UsageEvent:
    """Return the event that keeps a hold alive."""
    event = intent(request_id, lease_id, hold_nusd)
    event.event_id = f"{request_id}:{number}"
    event.kind = UsageEvent.KIND_CHECKPOINT
    return event


def outcome(
    request_id: str, lease_id: str, *, hold_nusd: int, charge_nusd: int, account_id: str = "a"
) -> UsageEvent:
    """Return the event that ends a request."""
    event = intent(request_id, lease_id, hold_nusd, account_id)
    event.event_id = f"{request_id}:outcome"
    event.kind = UsageEvent.KIND_OUTCOME
    event.outcome = UsageEvent.OUTCOME_COMPLETED
    event.charge_nusd = charge_nusd
    return event


def refunded(
    request_id: str, lease_id: str, *, hold_nusd: int, charge_nusd: int, account_id: str = "a"
) -> UsageEvent:
    """Return the event that ends a request whose answer broke its constraint."""
    event = outcome(
        request_id, lease_id, hold_nusd=hold_nusd, charge_nusd=charge_nusd, account_id=account_id
    )
    event.outcome = UsageEvent.OUTCOME_INVALID_OUTPUT
    event.refund_nusd = charge_nusd
    return event


def account_cap(window: Window, account_id: str = "a") -> CapName:
    """Return the name of an account's cap."""
    return cap_name(account_id, Scope.ACCOUNT, "", window)


def key_cap(window: Window, key_id: str = "key", account_id: str = "a") -> CapName:
    """Return the name of a key's cap."""
    return cap_name(account_id, Scope.KEY, key_id, window)


def episode_cap(episode_id: str, account_id: str = "a") -> CapName:
    """Return the name of an episode's cap."""
    return cap_name(account_id, Scope.EPISODE, episode_id, Window.TOTAL)


def key_budget(key_id: str = "key", account_id: str = "a") -> CapName:
    """Return the name of the budget that a key gives each of its episodes."""
    return cap_name(account_id, Scope.KEY_EPISODE, key_id, Window.TOTAL)


def shared(event: UsageEvent, supplier_id: str = "acme", *, fee_bps: int = 1_000) -> UsageEvent:
    """Return an outcome of which a supplier earns a share."""
    event.model_id = "model"
    event.supply.CopyFrom(Supply(supplier_id=supplier_id, provider="lent", fee_bps=fee_bps))
    return event


def costly(event: UsageEvent, cost_nusd: int, *, supplier_id: str = "") -> UsageEvent:
    """Return an outcome that costs something at a provider, or of a supplier with a price."""
    event.model_id = "model"
    terms = Supply(supplier_id=supplier_id, provider="bought", cost=Price(price_id="c"))
    terms.cost_nusd = cost_nusd
    event.supply.CopyFrom(terms)
    return event
