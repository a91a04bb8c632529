"""Embedding models on NVIDIA Triton Inference Server: texts in, vectors out.

The contract of the tensors is in `triton_vectors`. Inputs go out in batches as large as the model
takes, a few at a time; one that fails ends them all.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from services.router.providers.openai_usage import UPSTREAM, estimate
from services.router.providers.port import FINAL, Batch, Body, Call, Failure, ProviderError
from services.router.providers.triton_port import EmbeddingTransport, TritonConfig
from services.router.providers.triton_transports import open_transport
from services.router.providers.triton_vectors import (
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


class TritonEmbedder:
    """One embedding model on one Triton server; opened by `open_triton_embedder`."""

    def __init__(
        self, config: TritonConfig, tensors: EmbeddingTensors, transport: EmbeddingTransport
    ) -> None:
        self._config = config
        self._tensors = tensors
        self._transport = transport
        self._plan: Plan | None = None

    async def stream(
        self, call: Call, body: Body, *, deadline_s: float
    ) -> AsyncGenerator[Batch, None]:
        """Yield the one batch of an answer; see `Provider.stream`."""
        if call.operation != router_pb2.OPERATION_EMBEDDING:
            raise _unsupported("The deployment serves embeddings only.", "")
        wish = wish_of(body)
        try:
            plan = self._plan or await self._read_plan(deadline_s)
            found = await self._embedded(call, wish, plan, deadline_s)
        except ProviderError as error:
            if error.failure not in FINAL:
                self._plan = None
            raise
        batch = _batch(call, wish, found)
        batch.route.ignored_parameters.extend(sorted(body.keys() - _KNOWN))
        yield batch

    async def probe(self) -> bool:
        """Return whether the server has the model loaded and ready."""
        deadline_s = asyncio.get_running_loop().time() + self._config.probe_s
        try:
            return await self._transport.is_ready(deadline_s)
        except ProviderError:
            return False

    async def _read_plan(self, deadline_s: float) -> Plan:
        until_s = min(deadline_s, asyncio.get_running_loop().time() + self._config.metadata_s)
        self._plan = plan_of(await self._transport.layout(until_s), self._tensors)
        return self._plan

    async def _embedded(
        self, call: Call, wish: Wish, plan: Plan, deadline_s: float
    ) -> list[Vectors]:
        """Return what each batch of inputs gave, in order."""
        inputs = _inputs(wish, plan)
        if wish.dimension_count and plan.is_vllm and not self._tensors.is_shortenable:
            raise _no_dimensions()
        batches = [inputs[at : at + plan.batch_max] for at in range(0, len(inputs), plan.batch_max)]
        limit = asyncio.Semaphore(CALLS_MAX)

        async def one(number: int, batch: _Inputs) -> Vectors:
            async with limit:
                request_id = f"{call.request_id}-{number}"
                if plan.is_vllm:
                    found = await self._ask_vllm(batch[0], wish, request_id, deadline_s)
                else:
                    found = await self._ask(batch, plan, request_id, deadline_s)
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

    async def _ask(self, batch: _Inputs, plan: Plan, request_id: str, deadline_s: float) -> Vectors:
        texts = [text for text in batch if isinstance(text, str)]
        request = texts_ask(texts, plan, self._tensors)
        outputs = await self._transport.infer(request, request_id, deadline_s)
        return read_vectors(outputs, self._tensors, len(texts))

    async def _ask_vllm(
        self, given: str | list[int], wish: Wish, request_id: str, deadline_s: float
    ) -> Vectors:
        request = vllm_ask(given, wish.dimension_count)
        generation = await self._transport.start(request, request_id, deadline_s)
        try:
            responses = await generation.read(deadline_s)
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
    """Open the adapter of one model; nothing is asked of the server before the first request.

    Args:
        config: Where the model is.
        tensors: What its tensors are called.
        http_pool: Connections to share, for transport http; its own when absent.
    """
    async with open_transport(config, http_pool) as transport:
        yield TritonEmbedder(config, tensors, transport)
