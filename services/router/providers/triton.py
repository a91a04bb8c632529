"""NVIDIA Triton Inference Server with a language model of a contract that we know.

`TritonProvider` renders the chat template, asks for the tensors of the model's contract
(`triton_contracts`), and folds what comes back; it talks to one server by gRPC (`triton_grpc`) or
HTTP (`triton_http`), which look alike from here. Every request streams, plain ones too. No metadata
of a client ever reaches Triton.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog

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
from services.router.providers.triton_contract import Contract
from services.router.providers.triton_contracts import contract_of, needs_settings
from services.router.providers.triton_errors import STRUCTURED
from services.router.providers.triton_port import TritonConfig, TritonGeneration, TritonTransport
from services.router.providers.triton_prompt import Prompts
from services.router.providers.triton_texts import OWN_FIELDS, is_echoed
from services.router.providers.triton_transports import open_transport
from services.router.upstream import HttpPool

_log = structlog.get_logger("router.triton")


class TritonProvider:
    """One model on one Triton server; opened by `open_triton`, shared by all requests."""

    def __init__(self, config: TritonConfig, transport: TritonTransport) -> None:
        self._config = config
        self._transport = transport
        self._prompts = Prompts(config.template, config.tools)
        self._contract: Contract | None = None
        self._contract_lock = asyncio.Lock()

    async def stream(
        self, call: Call, body: Body, *, deadline_s: float
    ) -> AsyncGenerator[Batch, None]:
        """Yield the answer's batches; see `Provider.stream`."""
        generation: TritonGeneration | None = None
        try:
            prompt, images = await self._prompts.prompt(call, body, deadline_s=deadline_s)
            contract = self._contract or await self._read_contract(deadline_s)
            request = contract.ask(call, body, prompt)
            if images:
                contract.check_takes_images()
                files = await self._prompts.images(images, deadline_s=deadline_s)
                request = (*request, contract.images(files))
            ignored = _ignored(contract, call, body)
            echo = prompt if is_echoed(call, body) else ""
            reader = contract.reader(call, body)
            answer = Answer(
                call,
                echo=echo,
                choice_count=reader.choice_count,
                is_counted=contract.is_counted,
            )
            generation = await self._transport.start(request, call.request_id, deadline_s)
            loop = asyncio.get_running_loop()
            until_s = deadline_s
            while not answer.is_finished and (responses := await generation.read(until_s)):
                parts = [part for outputs in responses for part in reader.read(outputs)]
                batch = answer.add(parts)
                if batch is not None:
                    yield _telling(batch, ignored)
                    ignored = ()
                if answer.has_started:
                    until_s = loop.time() + call.idle_s
            answer.add(reader.end())
            last = answer.end()
            await generation.finish()
            yield _telling(last, ignored)
        except ProviderError as error:
            if call.constraint is not None and error.param == STRUCTURED:
                # An older backend, which does not know them; another deployment may.
                raise unsupported(call.constraint) from error
            if error.failure not in FINAL and error.failure is not Failure.UNSUPPORTED:
                self._contract = None
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

    async def _read_contract(self, deadline_s: float) -> Contract:
        """Ask for the model's tensors, once for all requests that wait."""
        until_s = min(deadline_s, asyncio.get_running_loop().time() + self._config.metadata_s)
        try:
            async with asyncio.timeout_at(until_s), self._contract_lock:
                if self._contract is None:
                    self._contract = await self._ask_contract()
                return self._contract
        except TimeoutError as error:
            raise ProviderError(
                Failure.TIMEOUT, "The Triton server did not describe its model in time."
            ) from error

    async def _ask_contract(self) -> Contract:
        wish = self._config.contract
        signature = await self._transport.signature(math.inf)
        if needs_settings(signature, wish):
            try:
                settings = await self._transport.settings(math.inf)
                signature = signature._replace(settings=settings)
            except ProviderError as error:
                # Who keeps the configuration to himself has to say how the text comes.
                _log.warning(
                    "triton_settings_hidden", model=self._config.model_name, why=error.message
                )
        return contract_of(signature, wish)


def _ignored(contract: Contract, call: Call, body: Body) -> Sequence[str]:
    ignored = contract.ignored(call, body)
    if call.operation:
        ignored = [name for name in ignored if name not in OWN_FIELDS]
    return ignored


def _telling(batch: Batch, ignored: Sequence[str]) -> Batch:
    """Return a batch that names the request fields which change nothing here."""
    if ignored:
        batch.route.ignored_parameters.extend(ignored)
    return batch


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
