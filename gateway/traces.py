"""The span of a sampled request in the gateway; one that is not sampled never comes here."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from gateway.exchange import Exchange
from gateway.stream import Report
from kit.tracing import Attribute, OpenSpan, Sampled, Tracing
from turnpike.router.v1 import router_pb2

_OPERATIONS: Final[Mapping[int, str]] = {
    router_pb2.OPERATION_COMPLETION: "text_completion",
    router_pb2.OPERATION_EMBEDDING: "embeddings",
}
"""OpenTelemetry's names; what has none there counts as chat."""


@contextmanager
def chat_span(
    tracing: Tracing, above: Sampled, exchange: Exchange, operation: int = 0
) -> Iterator[OpenSpan]:
    """Open the span of an admitted request; on exit it carries what became of it."""
    attributes: dict[Attribute, str | bool] = {
        Attribute.OPERATION: _OPERATIONS.get(operation, "chat"),
        Attribute.HTTP_ROUTE: exchange.route,
        Attribute.REQUEST_MODEL: exchange.model_id,
        Attribute.REQUEST_IS_STREAMING: exchange.is_streaming,
    }
    with tracing.span("gateway.chat", above, attributes, kind="server") as span:
        try:
            yield span
        finally:
            _close(span, exchange.report)


def _close(span: OpenSpan, report: Report) -> None:
    if report.request_id:
        span.set({Attribute.REQUEST_ID: report.request_id})
    if report.ttft_s:
        span.set({Attribute.RESPONSE_FIRST_CHUNK_S: report.ttft_s})
    if report.charge_nusd is not None:
        span.set({Attribute.CHARGE_NUSD: report.charge_nusd})
    if report.usage is not None:
        span.set(
            {
                Attribute.INPUT_TOKENS: report.usage.prompt_token_count,
                Attribute.OUTPUT_TOKENS: report.usage.completion_token_count,
            }
        )
    if report.error is not None:
        span.fail(report.error.reason)
