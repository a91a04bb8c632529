"""The spans of a sampled request in the router; one that is not sampled never comes here."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Final

from kit.tracing import Attribute, Attributes, Sampled, Tracing
from services.router.catalog import Deployment
from services.router.providers.port import Batch, ProviderError
from turnpike.router.v1 import router_pb2

Request = router_pb2.RunRequest
_OPERATIONS: Final[Mapping[int, str]] = {
    router_pb2.OPERATION_COMPLETION: "text_completion",
    router_pb2.OPERATION_EMBEDDING: "embeddings",
}
"""OpenTelemetry's names; what has none there counts as chat."""


class Trace:
    """What the spans of one request's attempts hang on."""

    __slots__ = ("_above", "_operation", "_tracing")

    def __init__(self, tracing: Tracing, above: Sampled, operation: str) -> None:
        self._tracing = tracing
        self._above = above
        self._operation = operation

    async def attempt(
        self, deployment: Deployment, number: int, batches: AsyncGenerator[Batch, None]
    ) -> AsyncGenerator[Batch, None]:
        """Yield an attempt's batches as they come, within a span.

        Raises:
            ProviderError: As the provider did; the span has its failure.
        """
        attributes: Attributes = {
            Attribute.OPERATION: self._operation,
            Attribute.PROVIDER: deployment.kind,
            Attribute.REQUEST_MODEL: deployment.upstream_model,
            Attribute.DEPLOYMENT: deployment.name,
            Attribute.ATTEMPT: number,
        }
        loop = asyncio.get_running_loop()
        start_s, is_first = loop.time(), True
        with self._tracing.span("provider.attempt", self._above, attributes, kind="client") as span:
            try:
                async with aclosing(batches):
                    async for batch in batches:
                        if is_first and batch.content_event_count:
                            is_first = False
                            span.set({Attribute.RESPONSE_FIRST_CHUNK_S: loop.time() - start_s})
                        if batch.HasField("finish"):
                            span.set(_finished(batch.finish))
                        yield batch
            except ProviderError as error:
                span.fail(error.failure)
                raise


async def dispatched(
    tracing: Tracing,
    above: Sampled,
    request: Request,
    run: Callable[[Request, Trace], AsyncGenerator[Batch, None]],
) -> AsyncGenerator[Batch, None]:
    """Yield what `run` makes of a request, within a span below `above`.

    Raises:
        TurnpikeError: As `run` did; the span has its reason.
    """
    envelope = request.envelope
    operation = _OPERATIONS.get(envelope.operation, "chat")
    attributes: Attributes = {
        Attribute.OPERATION: operation,
        Attribute.REQUEST_MODEL: envelope.model_id,
        Attribute.REQUEST_IS_STREAMING: envelope.is_streaming,
        Attribute.REQUEST_TOKENS_MAX: envelope.max_tokens,
    }
    with tracing.span("router.dispatch", above, attributes, kind="server") as span:
        async with aclosing(run(request, Trace(tracing, span.sampled, operation))) as batches:
            async for batch in batches:
                if batch.HasField("route"):
                    span.set(_routed(batch.route))
                if batch.HasField("finish"):
                    span.set(_finished(batch.finish))
                if batch.HasField("error"):
                    span.fail(batch.error.reason)
                yield batch


def _routed(route: router_pb2.Route) -> Attributes:
    return {
        Attribute.REQUEST_ID: route.request_id,
        Attribute.DEPLOYMENT: route.deployment,
        Attribute.RESPONSE_MODEL: route.upstream_model,
        Attribute.ATTEMPT: route.attempt_count,
    }


def _finished(finish: router_pb2.Finish) -> Attributes:
    return {
        Attribute.RESPONSE_FINISH_REASONS: (finish.finish_reason,),
        Attribute.INPUT_TOKENS: finish.usage.prompt_token_count,
        Attribute.OUTPUT_TOKENS: finish.usage.completion_token_count,
        Attribute.CHARGE_NUSD: finish.charge_nusd,
    }
