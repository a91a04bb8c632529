"""Opens this room."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kit.bus.port import Bus
from kit.clock import Clock
from kit.db import Database
from kit.ids import Uuid7Source
from kit.tasks import background
from kit.telemetry import Telemetry
from services.payment.leases import Leases
from services.payment.metrics import watch
from services.payment.proof.room import open_proof
from services.payment.proof.servicer import ReceiptServicer
from services.payment.servicer import PaymentServicer
from services.payment.settings import PaymentSettings
from services.payment.settlement import Settlement
from services.payment.store import PaymentStore
from services.payment.store_engine import open_transactions
from services.payment.sweeper import Sweeper
from services.payment.verify import Verifier
from turnpike.payment.v1.payment_pb2_grpc import add_PaymentServiceServicer_to_server
from turnpike.payment.v1.receipts_pb2_grpc import add_ReceiptServiceServicer_to_server

if TYPE_CHECKING:
    from turnpike.metering.v1.metering_pb2_grpc import MeteringServiceAsyncStub

MIGRATIONS: Final = Path(__file__).parent / "migrations"


@dataclass(frozen=True, slots=True)
class PaymentServicers:
    """What the payment room serves."""

    ledger: PaymentServicer
    receipts: ReceiptServicer

    def register(self, server: Any) -> None:  # noqa: ANN401 - a server, or what stands for one
        """Add every service to a server."""
        add_PaymentServiceServicer_to_server(self.ledger, server)
        add_ReceiptServiceServicer_to_server(self.receipts, server)


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
        store = PaymentStore(transactions, settings, clock=clock, new_id=Uuid7Source().new)
        settlement = Settlement(store, bus, settings=settings)
        sweeper = Sweeper(store, settings=settings)
        registry = (telemetry or Telemetry()).registry
        watch(registry, settlement=settlement, sweeper=sweeper)
        async with (
            open_proof(
                settings.proof, transactions=transactions, clock=clock, registry=registry
            ) as receipts,
            background(settlement.run, name="payment_settlement"),
            background(sweeper.run, name="payment_sweeper"),
        ):
            yield PaymentServicers(
                ledger=PaymentServicer(
                    store,
                    Leases(store, bus, settings=settings),
                    Verifier(store, metering, settings=settings),
                    settings=settings,
                ),
                receipts=receipts,
            )
