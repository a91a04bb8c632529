"""NVIDIA Triton Inference Server with the tensors of its vLLM backend.

`TritonProvider` renders the chat template, asks for the tensors, and folds what comes back; it
talks to one server by gRPC (`triton_grpc`) or HTTP (`triton_http`), which look alike from here.
Every request streams, plain ones too. No metadata of a client ever reaches Triton.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from services.router.providers.constraint_fields import unsupported
from services.router.providers.port import (
    FINAL,
    Batch,
    Body,
    Call,
    Failure,
    ProviderError,
)
from services.router.providers.telling import telling
from services.router.providers.triton_answer import Answer
from services.router.providers.triton_port import TritonConfig, TritonTransport
from services.router.providers.triton_prompt import Prompts
from services.router.providers.triton_tensors import (
    STRUCTURED,
    ask,
    check_inputs,
    check_takes_images,
    ignored_fields,
    sampling_parameters,
)
from services.router.providers.triton_texts import OWN_FIELDS, is_echoed
from services.router.providers.triton_transports import open_transport
from services.router.upstream import HttpPool


class TritonProvider:
    """One model on one Triton server; opened by `open_triton`, shared by all requests."""

    def __init__(self, config: TritonConfig, transport: TritonTransport) -> None:
        self._config = config
        self._transport = transport
        self._prompts = Prompts(config.template, config.tools)
        self._inputs: frozenset[str] | None = None
        self._inputs_lock = asyncio.Lock()

    def stream(self, call: Call, body: Body, *, deadline_s: float) -> AsyncGenerator[Batch, None]:
        """Return the answer's batches; see `Provider.stream`."""
        stream = self._generated(call, body, deadline_s)
        ignored = ignored_fields(body)
        if call.operation:
            ignored = [name for name in ignored if name not in OWN_FIELDS]
        return telling(stream, ignored) if ignored else stream

    async def _generated(
        self, call: Call, body: Body, deadline_s: float
    ) -> AsyncGenerator[Batch, None]:
        sampling = sampling_parameters(
            body, max_tokens=call.max_tokens, adapter=call.adapter, constraint=call.constraint
        )
        prompt, images = await self._prompts.prompt(call, body, deadline_s=deadline_s)
        loop = asyncio.get_running_loop()
        answer = Answer(call, echo=prompt if is_echoed(call, body) else "")
        generation = None
        try:
            inputs = self._inputs or await self._read_inputs(deadline_s)
            request = ask(prompt, sampling, inputs)
            if images:
                check_takes_images(inputs)
                request.images = await self._prompts.images(images, deadline_s=deadline_s)
            generation = await self._transport.start(request, call.request_id, deadline_s)
            until_s = deadline_s
            while not answer.is_finished and (parts := await generation.read(until_s)):
                batch = answer.add(parts)
                if batch is not None:
                    yield batch
                if answer.has_started:
                    until_s = loop.time() + call.idle_s
            last = answer.end()
            await generation.finish()
            yield last
        except ProviderError as error:
            if call.constraint is not None and error.param == STRUCTURED:
                # An older backend, which does not know them; another deployment may.
                raise unsupported(call.constraint) from error
            if error.failure not in FINAL:
                self._inputs = None
            raise
        finally:
            if generation is not None:
                generation.close()

    async def probe(self) -> bool:
        """Return whether the server has the model loaded and ready."""
        deadline_s = asyncio.get_running_loop().time() + self._config.probe_s
        try:
            return await self._transport.is_ready(deadline_s)
        except ProviderError:
            return False

    async def _read_inputs(self, deadline_s: float) -> frozenset[str]:
        """Ask for the model's inputs, once for all requests that wait."""
        until_s = min(deadline_s, asyncio.get_running_loop().time() + self._config.metadata_s)
        try:
            async with asyncio.timeout_at(until_s), self._inputs_lock:
                if self._inputs is None:
                    self._inputs = check_inputs(await self._transport.input_names(math.inf))
                return self._inputs
        except TimeoutError as error:
            raise ProviderError(
                Failure.TIMEOUT, "The Triton server did not describe its model in time."
            ) from error


@asynccontextmanager
async def open_triton(
    config: TritonConfig, *, http_pool: HttpPool | None = None
) -> AsyncIterator[TritonProvider]:
    """Open the adapter of one model; nothing is asked of the server before the first request.

    Args:
        config: Where the model is.
        http_pool: Connections to share, for transport http; its own when absent.
    """
    async with open_transport(config, http_pool) as transport:
        yield TritonProvider(config, transport)
