"""NVIDIA Triton Inference Server with the tensors of its vLLM backend.

`TritonProvider` renders the chat template, asks for the tensors, and folds what comes back; it
talks to one server by gRPC (`triton_grpc`) or HTTP (`triton_http`), which look alike from here.
Every request streams, plain ones too. No metadata of a client ever reaches Triton.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from kit.errors import TurnpikeError
from services.router.providers.constraint_fields import unsupported
from services.router.providers.port import (
    FINAL,
    Batch,
    Body,
    Call,
    Failure,
    ProviderError,
)
from services.router.providers.triton_answer import Answer
from services.router.providers.triton_port import TritonConfig, TritonTransport
from services.router.providers.triton_tensors import (
    STRUCTURED,
    ask,
    check_inputs,
    ignored_fields,
    sampling_parameters,
)
from services.router.providers.triton_texts import OWN_FIELDS, is_echoed, single_prompt
from services.router.providers.triton_transports import open_transport
from services.router.upstream import HttpPool
from turnpike.router.v1 import router_pb2

_NULL: Final = msgspec.Raw(b"null")


class TritonProvider:
    """One model on one Triton server; opened by `open_triton`, shared by all requests."""

    def __init__(self, config: TritonConfig, transport: TritonTransport) -> None:
        self._config = config
        self._transport = transport
        self._inputs: frozenset[str] | None = None
        self._inputs_lock = asyncio.Lock()

    async def stream(
        self, call: Call, body: Body, *, deadline_s: float
    ) -> AsyncGenerator[Batch, None]:
        """Yield the answer's batches; see `Provider.stream`."""
        sampling = sampling_parameters(
            body, max_tokens=call.max_tokens, adapter=call.adapter, constraint=call.constraint
        )
        prompt = self._prompt(call, body)
        loop = asyncio.get_running_loop()
        answer = Answer(call, echo=prompt if is_echoed(call, body) else "")
        ignored = _ignored(call, body)
        generation = None
        try:
            inputs = self._inputs or await self._read_inputs(deadline_s)
            generation = await self._transport.start(
                ask(prompt, sampling, inputs), call.request_id, deadline_s
            )
            until_s = deadline_s
            while not answer.is_finished and (parts := await generation.read(until_s)):
                batch = answer.add(parts)
                if batch is not None:
                    if ignored:
                        batch.route.ignored_parameters.extend(ignored)
                        ignored = []
                    yield batch
                if answer.has_started:
                    until_s = loop.time() + call.idle_s
            last = answer.end()
            await generation.finish()
            if ignored:
                last.route.ignored_parameters.extend(ignored)
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

    def _prompt(self, call: Call, body: Body) -> str:
        template = self._config.template
        try:
            if call.operation == router_pb2.OPERATION_COMPLETION:
                prompt = single_prompt(body)
                return prompt if template is None else template.cleaned("prompt", prompt)
            if call.operation or template is None:
                what = "serve this" if call.operation else "have a chat template"
                raise ProviderError(Failure.UNSUPPORTED, f"The deployment does not {what}.")
            return template.render(
                body.get("messages", _NULL), body.get("chat_template_kwargs", b"")
            )
        except TurnpikeError as error:
            raise ProviderError(Failure.REJECTED, error.message, status=400) from error

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


def _ignored(call: Call, body: Body) -> list[str]:
    """Return the fields of a request that change nothing here."""
    names = ignored_fields(body)
    return [name for name in names if name not in OWN_FIELDS] if call.operation else names


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
