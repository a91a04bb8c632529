"""What the handlers need, put together once."""

from dataclasses import dataclass

import structlog
from prometheus_client import CollectorRegistry

from gateway.admission import Admission
from gateway.bodies import LongBodies
from gateway.machine.rail import MachineRail
from gateway.metrics import GatewayMetrics
from gateway.models import Models
from gateway.openai.dialect import PathDialects
from gateway.readiness import Readiness
from gateway.running import RunningRequests
from gateway.settings import GatewaySettings
from kit.clock import Clock
from kit.ids import Uuid7Source
from kit.logs import AccessLog
from kit.tracing import Tracing
from turnpike.metering.v1 import metering_pb2_grpc
from turnpike.payment.v1 import (
    billing_pb2_grpc,
    caps_pb2_grpc,
    payment_pb2_grpc,
    receipts_pb2_grpc,
)
from turnpike.router.v1 import router_pb2_grpc


@dataclass(frozen=True, slots=True)
class Deps:
    """The gateway's parts; `rail` is there when requests may pay for themselves."""

    settings: GatewaySettings
    admission: Admission
    models: Models
    running: RunningRequests
    long_bodies: LongBodies
    router: "router_pb2_grpc.RouterServiceAsyncStub"
    receipts: "receipts_pb2_grpc.ReceiptServiceAsyncStub"
    payment: "payment_pb2_grpc.PaymentServiceAsyncStub"
    caps: "caps_pb2_grpc.CapsServiceAsyncStub"
    metering: "metering_pb2_grpc.MeteringServiceAsyncStub"
    billing: "billing_pb2_grpc.BillingServiceAsyncStub"
    readiness: Readiness
    metrics: GatewayMetrics
    registry: CollectorRegistry
    access_log: AccessLog
    tracing: Tracing
    dialects: PathDialects
    clock: Clock
    ids: Uuid7Source
    log: structlog.stdlib.BoundLogger
    rail: MachineRail | None = None

    def new_id(self) -> str:
        """Return an id for an answer that never saw the router."""
        return self.ids.new(self.clock.unix_ms())
