"""The span of a sampled request in the gateway; one that is not sampled never comes here."""

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.exchange import Exchange
from gateway.stream import Report
from kit.tracing import Attribute, OpenSpan, Sampled, Tracing


@contextmanager
def chat_span(tracing: Tracing, above: Sampled, exchange: Exchange) -> Iterator[OpenSpan]:
    """Open the span of an admitted chat completion; on exit it carries what became of it."""
    attributes: dict[Attribute, str | bool] = {
        Attribute.OPERATION: "chat",
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
