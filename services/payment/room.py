"""Opens this room."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry

from kit.bus.port import Bus
from kit.clock import Clock
from kit.db import Database
from kit.ids import Uuid7Source
from kit.tasks import background
from kit.telemetry import Telemetry
from services.payment.caps.budgets import Budgets
from services.payment.caps.servicer import CapsServicer
from services.payment.caps.store import CapStore
from services.payment.leases import Leases
from services.payment.metrics import watch
from services.payment.mpp.servicer_off import MachineOff
from services.payment.proof.room import open_proof
from services.payment.proof.servicer import ReceiptServicer
from services.payment.servicer import PaymentServicer
from services.payment.settings import PaymentSettings
from services.payment.settlement import Settlement
from services.payment.store import PaymentStore
from services.payment.store_engine import Transactions, open_transactions
from services.payment.stripe.opening import open_billing
from services.payment.stripe.servicer import BillingServicer
from services.payment.stripe.store import StripeStore
from services.payment.suppliers.servicer import SuppliersServicer
from services.payment.suppliers.store import SuppliersStore
from services.payment.sweeper import Sweeper
from services.payment.verify import Verifier
from turnpike.payment.v1.billing_pb2_grpc import add_BillingServiceServicer_to_server
from turnpike.payment.v1.caps_pb2_grpc import add_CapsServiceServicer_to_server
from turnpike.payment.v1.machine_pb2_grpc import (
    MachinePaymentServiceServicer,
    add_MachinePaymentServiceServicer_to_server,
)
from turnpike.payment.v1.payment_pb2_grpc import add_PaymentServiceServicer_to_server
from turnpike.payment.v1.receipts_pb2_grpc import add_ReceiptServiceServicer_to_server
from turnpike.payment.v1.suppliers_pb2_grpc import add_SuppliersServiceServicer_to_server

if TYPE_CHECKING:
    from turnpike.metering.v1.metering_pb2_grpc import MeteringServiceAsyncStub

MIGRATIONS: Final = Path(__file__).parent / "migrations"


@dataclass(frozen=True, slots=True)
class PaymentServicers:
    """What the payment room serves."""

    ledger: PaymentServicer
    receipts: ReceiptServicer
    caps: CapsServicer
    suppliers: SuppliersServicer
    machine: MachinePaymentServiceServicer
    billing: BillingServicer

    def register(self, server: Any) -> None:  # noqa: ANN401 - a server, or what stands for one
        """Add every service to a server."""
        add_PaymentServiceServicer_to_server(self.ledger, server)
        add_ReceiptServiceServicer_to_server(self.receipts, server)
        add_CapsServiceServicer_to_server(self.caps, server)
        add_SuppliersServiceServicer_to_server(self.suppliers, server)
        add_MachinePaymentServiceServicer_to_server(self.machine, server)
        add_BillingServiceServicer_to_server(self.billing, server)


@asynccontextmanager
async def open_payment(
    settings: PaymentSettings,
    *,
    database: Database,
    bus: Bus,
    clock: Clock,
    metering: "MeteringServiceAsyncStub",
    telemetry: Telemetry | None = None,
) -> AsyncIterator[PaymentServicers]:
    """Open the payment room on a migrated database; while it is open it settles and sweeps."""
    async with open_transactions(database, settings=settings) as transactions:
        new_id = Uuid7Source().new
        store = PaymentStore(transactions, settings, clock=clock, new_id=new_id)
        settlement = Settlement(store, bus, settings=settings)
        sweeper = Sweeper(store, settings=settings)
        registry = (telemetry or Telemetry()).registry
        watch(registry, settlement=settlement, sweeper=sweeper)
        cards = StripeStore(transactions, settings.stripe, clock=clock)
        leases = Leases(
            store,
            bus,
            settings=settings,
            why=cards.refusal if settings.stripe.is_on else None,
        )
        caps = CapStore(transactions, settings, clock=clock)
        async with (
            open_proof(
                settings.proof, transactions=transactions, clock=clock, registry=registry
            ) as receipts,
            background(settlement.run, name="payment_settlement"),
            background(sweeper.run, name="payment_sweeper"),
            _machine_payments(settings, transactions, bus, clock, registry) as machine,
            open_billing(
                settings.stripe,
                store=cards,
                call_back=leases.call_back,
                clock=clock,
                registry=registry,
            ) as billing,
        ):
            yield PaymentServicers(
                ledger=PaymentServicer(
                    store,
                    leases,
                    Verifier(store, metering, settings=settings),
                    settings=settings,
                ),
                receipts=receipts,
                caps=CapsServicer(caps, Budgets(caps, leases)),
                suppliers=SuppliersServicer(SuppliersStore(transactions, clock=clock)),
                machine=machine,
                billing=billing,
            )


@asynccontextmanager
async def _machine_payments(
    settings: PaymentSettings,
    transactions: Transactions,
    bus: Bus,
    clock: Clock,
    registry: CollectorRegistry,
) -> AsyncIterator[MachinePaymentServiceServicer]:
    if not settings.mpp.is_enabled:
        yield MachineOff()
        return
    # Chain, curves and HTTP client load only where machines pay.
    from services.payment.mpp.room import open_machine_payments  # noqa: PLC0415

    async with open_machine_payments(
        settings.mpp,
        transactions=transactions,
        lease_s=settings.lease_s,
        bus=bus,
        clock=clock,
        registry=registry,
    ) as machine:
        yield machine
