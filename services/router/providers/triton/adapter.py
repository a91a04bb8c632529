"""NVIDIA Triton Inference Server with a language model of a contract that we know.

`TritonProvider` renders the chat template, asks for the tensors of the model's contract
(`triton_contracts`), and folds what comes back; it talks to its servers (`triton_servers`) by gRPC
(`triton_grpc`) or HTTP (`triton_http`), which look alike from here. Every request streams, plain
ones too. No metadata of a client ever reaches Triton.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from services.router.providers.port import Batch, Body, Call, ProviderError
from services.router.providers.refusals import unsupported
from services.router.providers.triton.answer import Answer
from services.router.providers.triton.contract import Contract, Reader
from services.router.providers.triton.contracts import contract_of, needs_settings
from services.router.providers.triton.errors import STRUCTURED
from services.router.providers.triton.port import TritonConfig, TritonGeneration, TritonTransport
from services.router.providers.triton.prompt import Prompts
from services.router.providers.triton.servers import Server, Servers
from services.router.providers.triton.texts import OWN_FIELDS, is_echoed
from services.router.providers.triton.transports import open_ways
from services.router.template_messages import Image
from services.router.upstream import HttpPool

_log = structlog.get_logger("router.triton")


@dataclass(slots=True)
class _Asked:
    """A request; `files` are its images once they were fetched."""

    call: Call
    body: Body
    prompt: str
    images: Sequence[Image]
    deadline_s: float
    files: tuple[str, ...] = ()


class _Exchange:
    """A request at one server: its call, and the answer that is made of it.

    `has_read` tells that something came, `is_over` that the last batch is out.
    """

    __slots__ = (
        "_answer",
        "_generation",
        "_idle_s",
        "_ignored",
        "_loop",
        "_reader",
        "_until_s",
        "has_read",
        "is_over",
    )

    def __init__(
        self,
        asked: _Asked,
        answer: Answer,
        reader: Reader,
        generation: TritonGeneration,
        ignored: Sequence[str],
    ) -> None:
        self._generation = generation
        self._reader = reader
        self._answer = answer
        self._ignored = ignored
        self._loop = asyncio.get_running_loop()
        self._idle_s = asked.call.idle_s
        self._until_s = asked.deadline_s
        self.has_read = False
        self.is_over = False

    async def batch(self) -> Batch | None:
        """Return the next batch, None behind the last one.

        Raises:
            ProviderError: The server failed, or its answer makes no sense.
        """
        answer, generation = self._answer, self._generation
        if self.is_over:
            return None
        while not answer.is_finished and (responses := await generation.read(self._until_s)):
            self.has_read = True
            parts = [part for outputs in responses for part in self._reader.read(outputs)]
            batch = answer.add(parts)
            if answer.has_started:
                self._until_s = self._loop.time() + self._idle_s
            if batch is not None:
                return self._telling(batch)
        answer.add(self._reader.end())
        last = answer.end()
        await generation.finish()
        self.is_over = True
        return self._telling(last)

    def close(self) -> None:
        """Stop the generation, unless it has ended."""
        self._generation.close()

    def _telling(self, batch: Batch) -> Batch:
        """Return a batch; the first one names the request fields that change nothing here."""
        if self._ignored:
            batch.route.ignored_parameters.extend(self._ignored)
            self._ignored = ()
        return batch


class TritonProvider:
    """One model on Triton servers; opened by `open_triton`, shared by all requests."""

    def __init__(self, config: TritonConfig, servers: "Servers[TritonTransport, Contract]") -> None:
        self._config = config
        self._servers = servers
        self._prompts = Prompts(config.template, config.tools)

    async def stream(
        self, call: Call, body: Body, *, deadline_s: float
    ) -> AsyncGenerator[Batch, None]:
        """Yield the answer's batches; see `Provider.stream`.

        Before anything came from a server another one is tried within the same attempt.
        """
        prompt, images = await self._prompts.prompt(call, body, deadline_s=deadline_s)
        asked = _Asked(call, body, prompt, images, deadline_s)
        tried: set[Server[TritonTransport, Contract]] = set()
        failure: ProviderError | None = None
        while True:
            with self._servers.lease(tried, after=failure) as lease:
                exchange = None
                try:
                    exchange = await self._begin(lease.server, asked)
                    while (batch := await exchange.batch()) is not None:
                        lease.began()
                        if exchange.is_over:
                            lease.succeeded()
                        yield batch
                except ProviderError as error:
                    has_read = exchange is not None and exchange.has_read
                    failure = error
                    if not lease.failed(error, has_read=has_read):
                        _explain(error, call)
                        raise
                else:
                    return
                finally:
                    if exchange is not None:
                        exchange.close()

    @property
    def servers(self) -> "Sequence[Server[TritonTransport, Contract]]":
        """The servers."""
        return self._servers.all

    def backlog_count(self) -> int:
        """Return how many requests of others the servers have; see `Backlogged`."""
        return self._servers.backlog_count

    async def probe(self) -> bool:
        """Return whether a server has the model loaded and ready."""
        return await self._servers.probe()

    async def _begin(self, server: "Server[TritonTransport, Contract]", asked: _Asked) -> _Exchange:
        """Send a request to a server.

        Raises:
            ProviderError: It could not be sent, or the model there cannot be asked for this.
        """
        call, body, deadline_s = asked.call, asked.body, asked.deadline_s
        contract = await self._servers.memo(server, self._read_contract, deadline_s)
        request = contract.ask(call, body, asked.prompt)
        reader = contract.reader(call, body)
        answer = Answer(
            call,
            echo=asked.prompt if is_echoed(call, body) else "",
            choice_count=reader.choice_count,
            is_counted=contract.is_counted,
        )
        if asked.images:
            contract.check_takes_images()
            if not asked.files:
                asked.files = await self._prompts.images(asked.images, deadline_s=deadline_s)
            request = (*request, contract.images(asked.files))
        generation = await server.way.start(request, call.request_id, deadline_s)
        return _Exchange(asked, answer, reader, generation, _ignored(contract, call, body))

    async def _read_contract(self, way: TritonTransport) -> Contract:
        wish = self._config.contract
        signature = await way.signature(math.inf)
        if needs_settings(signature):
            try:
                settings = await way.settings(math.inf)
                signature = signature._replace(settings=settings)
            except ProviderError as error:
                # Who keeps the configuration to himself has to say how the text comes, and has
                # to let the model give several responses.
                _log.warning(
                    "triton_settings_hidden", model=self._config.model_name, why=error.message
                )
        return contract_of(signature, wish)


def _explain(error: ProviderError, call: Call) -> None:
    """Say what a failure means for the request, where that is something else.

    Raises:
        ProviderError: UNSUPPORTED: a backend does not know constraints; another deployment may.
    """
    if call.constraint is not None and error.param == STRUCTURED:
        raise unsupported(call.constraint.param) from error


def _ignored(contract: Contract, call: Call, body: Body) -> Sequence[str]:
    ignored = contract.ignored(call, body)
    if call.operation:
        ignored = [name for name in ignored if name not in OWN_FIELDS]
    return ignored


@asynccontextmanager
async def open_triton(
    config: TritonConfig, *, http_pool: HttpPool | None = None
) -> AsyncIterator[TritonProvider]:
    """Open the adapter of one model; nothing is asked of a single server before the first request.

    Args:
        config: Where the model is.
        http_pool: Connections to share, for transport http; its own when absent.
    """
    async with open_ways(config, http_pool) as (ways, queues):
        servers = Servers[TritonTransport, Contract](ways, config.rules, queues=queues)
        async with servers.watched():
            yield TritonProvider(config, servers)
