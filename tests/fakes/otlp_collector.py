"""An OTLP/gRPC collector of traces on a real socket, which remembers every byte it was sent."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from grpc import aio
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue


@dataclass(frozen=True, slots=True)
class Span:
    """A span as it came; ids in hexadecimal, `parent_id` empty at the root."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    attributes: dict[str, object]
    is_error: bool


@dataclass(slots=True)
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """What was exported so far."""

    address: str = ""
    requests: list[pb.ExportTraceServiceRequest] = field(default_factory=list)

    async def Export(
        self, request: pb.ExportTraceServiceRequest, _context: object
    ) -> pb.ExportTraceServiceResponse:
        self.requests.append(request)
        return pb.ExportTraceServiceResponse()

    @property
    def raw(self) -> bytes:
        """Everything that came, to look for what must not be there."""
        return b"".join(request.SerializeToString() for request in self.requests)

    @property
    def spans(self) -> list[Span]:
        """Every span, in the order of arrival."""
        return [
            Span(
                service=_values(sent.resource.attributes)["service.name"],  # type: ignore[arg-type]
                name=span.name,
                trace_id=span.trace_id.hex(),
                span_id=span.span_id.hex(),
                parent_id=span.parent_span_id.hex(),
                kind=span.kind,
                attributes=_values(span.attributes),
                is_error=span.status.code == span.status.STATUS_CODE_ERROR,
            )
            for request in self.requests
            for sent in request.resource_spans
            for scope in sent.scope_spans
            for span in scope.spans
        ]

    def named(self, name: str) -> list[Span]:
        """Return the spans of one name."""
        return [span for span in self.spans if span.name == name]


def _values(attributes: object) -> dict[str, object]:
    return {each.key: _value(each.value) for each in attributes}  # type: ignore[attr-defined]


def _value(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind) if kind else None


@asynccontextmanager
async def open_collector() -> AsyncIterator[Collector]:
    """Open a collector on a free port of this machine."""
    collector, server = Collector(), aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    collector.address = f"http://127.0.0.1:{port}"
    await server.start()
    try:
        yield collector
    finally:
        await server.stop(1.0)
