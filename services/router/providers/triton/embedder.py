"""Embedding models on NVIDIA Triton Inference Server: texts in, vectors out.

The contract of the tensors is in `triton_vectors`. Inputs go out in batches as large as the model
takes, a few at a time; one that fails ends them all.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from services.router.providers.openai.usage import UPSTREAM, estimate
from services.router.providers.port import Batch, Body, Call, Failure, ProviderError
from services.router.providers.triton.port import EmbeddingTransport, TritonConfig
from services.router.providers.triton.servers import Server, Servers
from services.router.providers.triton.transports import open_ways
from services.router.providers.triton.vectors import (
    EmbeddingTensors,
    Plan,
    Vectors,
    plan_of,
    read_vectors,
    read_vllm_vector,
    texts_ask,
    vllm_ask,
)
from services.router.providers.vectors import (
    FLOAT_BYTES,
    Wish,
    answer_of,
    entry_of,
    malformed,
    shortened,
    usage_json_of,
    wish_of,
)
from services.router.upstream import HttpPool
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2

CALLS_MAX: Final = 8
"""Calls that one request may have under way at once."""

_KNOWN: Final = frozenset({"model", "input", "encoding_format", "dimensions", "timeout_ms"})
_Inputs = Sequence[str | list[int]]


class _Asked(NamedTuple):
    """A request at one server."""

    call: Call
    wish: Wish
    plan: Plan
    way: EmbeddingTransport
    deadline_s: float


class TritonEmbedder:
    """One embedding model on Triton servers; opened by `open_triton_embedder`."""

    def __init__(
        self, tensors: EmbeddingTensors, servers: Servers[EmbeddingTransport, Plan]
    ) -> None:
        self._tensors = tensors
        self._servers = servers

    async def stream(
        self, call: Call, body: Body, *, deadline_s: float
    ) -> AsyncGenerator[Batch, None]:
        """Yield the one batch of an answer; see `Provider.stream`."""
        if call.operation != router_pb2.OPERATION_EMBEDDING:
            raise _unsupported("The deployment serves embeddings only.", "")
        wish = wish_of(body)
        found = await self._answered(call, wish, deadline_s)
        batch = _batch(call, wish, found)
        batch.route.ignored_parameters.extend(sorted(body.keys() - _KNOWN))
        yield batch

    def backlog_count(self) -> int:
        """Return how many requests of others the servers have; see `Backlogged`."""
        return self._servers.backlog_count

    async def probe(self) -> bool:
        """Return whether a server has the model loaded and ready."""
        return await self._servers.probe()

    async def _answered(self, call: Call, wish: Wish, deadline_s: float) -> list[Vectors]:
        """Return what the first server that can gives."""
        tried: set[Server[EmbeddingTransport, Plan]] = set()
        failure: ProviderError | None = None
        while True:
            with self._servers.lease(tried, after=failure) as lease:
                server = lease.server
                try:
                    plan = await self._servers.memo(server, self._read_plan, deadline_s)
                    asked = _Asked(call, wish, plan, server.way, deadline_s)
                    found = await self._embedded(asked)
                except ProviderError as error:
                    failure = error
                    if not lease.failed(error, has_read=False):
                        raise
                else:
                    lease.succeeded()
                    return found

    async def _read_plan(self, way: EmbeddingTransport) -> Plan:
        return plan_of(await way.layout(math.inf), self._tensors)

    async def _embedded(self, asked: _Asked) -> list[Vectors]:
        """Return what each batch of inputs gave, in order."""
        call, wish, plan = asked.call, asked.wish, asked.plan
        inputs = _inputs(wish, plan)
        if wish.dimension_count and plan.is_vllm and not self._tensors.is_shortenable:
            raise _no_dimensions()
        batches = [inputs[at : at + plan.batch_max] for at in range(0, len(inputs), plan.batch_max)]
        limit = asyncio.Semaphore(CALLS_MAX)

        async def one(number: int, batch: _Inputs) -> Vectors:
            async with limit:
                request_id = f"{call.request_id}-{number}"
                if plan.is_vllm:
                    found = await self._ask_vllm(batch[0], asked, request_id)
                else:
                    found = await self._ask(batch, asked, request_id)
                return self._fitted(found, wish)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(n, batch)) for n, batch in enumerate(batches)]
        except ExceptionGroup as failed:
            errors = [error for error in failed.exceptions if isinstance(error, ProviderError)]
            if not errors:
                raise
            raise errors[0] from None
        return [task.result() for task in tasks]

    async def _ask(self, batch: _Inputs, asked: _Asked, request_id: str) -> Vectors:
        texts = [text for text in batch if isinstance(text, str)]
        request = texts_ask(texts, asked.plan, self._tensors)
        outputs = await asked.way.infer(request, request_id, asked.deadline_s)
        return read_vectors(outputs, self._tensors, len(texts))

    async def _ask_vllm(self, given: str | list[int], asked: _Asked, request_id: str) -> Vectors:
        request = vllm_ask(given, asked.wish.dimension_count)
        generation = await asked.way.start(request, request_id, asked.deadline_s)
        try:
            responses = await generation.read(asked.deadline_s)
            if len(responses) != 1:
                raise malformed()
            await generation.finish()
            return read_vllm_vector(responses[0])
        finally:
            generation.close()

    def _fitted(self, found: Vectors, wish: Wish) -> Vectors:
        """Return vectors of the length that was asked for."""
        wanted = wish.dimension_count
        if not wanted or all(len(vector) == wanted * FLOAT_BYTES for vector in found.vectors):
            return found
        if not self._tensors.is_shortenable:
            raise _no_dimensions()
        return found._replace(vectors=[shortened(vector, wanted) for vector in found.vectors])


def _inputs(wish: Wish, plan: Plan) -> _Inputs:
    """Return the inputs one by one.

    Raises:
        ProviderError: UNSUPPORTED: they are tokens, and the model takes texts.
    """
    if isinstance(wish.input, str):
        return [wish.input]
    if not (plan.is_vllm or all(isinstance(entry, str) for entry in wish.input)):
        raise _unsupported("This deployment takes its input only as text.", "input")
    tokens = [entry for entry in wish.input if isinstance(entry, int)]
    return [tokens] if tokens else [e for e in wish.input if not isinstance(e, int)]


def _batch(call: Call, wish: Wish, found: Sequence[Vectors]) -> Batch:
    vectors = [vector for part in found for vector in part.vectors]
    if len(vectors) != wish.count or len({len(vector) for vector in vectors}) != 1:
        raise malformed()
    entries = [
        entry_of(index, vector, is_base64=wish.is_base64) for index, vector in enumerate(vectors)
    ]
    counts = [part.token_count for part in found if part.token_count is not None]
    finish = router_pb2.Finish(usage=estimate(0))
    if len(counts) == len(found):
        usage = usage_pb2.TokenUsage(prompt_token_count=sum(counts), source=UPSTREAM)
        finish = router_pb2.Finish(usage=usage, usage_json=usage_json_of(sum(counts)))
    return Batch(completion=answer_of(call, entries, finish.usage_json), finish=finish)


def _unsupported(message: str, param: str) -> ProviderError:
    return ProviderError(Failure.UNSUPPORTED, message, status=400, param=param)


def _no_dimensions() -> ProviderError:
    return _unsupported("This deployment's vectors cannot be shortened.", "dimensions")


@asynccontextmanager
async def open_triton_embedder(
    config: TritonConfig, tensors: EmbeddingTensors, *, http_pool: HttpPool | None = None
) -> AsyncIterator[TritonEmbedder]:
    """Open the adapter of one model; nothing is asked of a single server before the first request.

    Args:
        config: Where the model is.
        tensors: What its tensors are called.
        http_pool: Connections to share, for transport http; its own when absent.
    """
    async with open_ways(config, http_pool) as (ways, queues):
        servers = Servers[EmbeddingTransport, Plan](ways, config.rules, queues=queues)
        async with servers.watched():
            yield TritonEmbedder(tensors, servers)
