"""Triton over HTTP: `generate_stream`, several times cheaper per token than gRPC.

One read brings every event that has come. The status belongs to the first response: a failure
before it is an HTTP error whose body is JSON or one event, a later one an event inside a 200.
There is no `[DONE]`. Closing the connection stops the generation once the first response is due:
until then Triton does not look at the connection, so a prefill that nobody waits for runs to its
end. Where prefills are long, gRPC is the better choice.

Source: triton-inference-server/server `docs/protocol/extension_generate.md`, read 2026-01.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import quote

import msgspec

from services.router.providers.port import Failure, ProviderError
from services.router.providers.triton.errors import error_of
from services.router.providers.triton.port import TritonConfig
from services.router.providers.triton.queue import METRICS_BYTES_MAX, Queue, read_queue
from services.router.providers.triton.vectors import ModelLayout, Output, TextsAsk, read_layout
from services.router.providers.triton.wire import (
    Ask,
    ModelSettings,
    Outputs,
    Signature,
    Spec,
    json_body,
    read_event,
)
from services.router.providers.vectors import malformed
from services.router.upstream import (
    HttpExchange,
    HttpLimits,
    HttpPool,
    Target,
    UpstreamBusyError,
    UpstreamClosedError,
    UpstreamConnectError,
    UpstreamError,
    UpstreamTimeoutError,
    build_headers,
    open_http_pool,
)

ERROR_BYTES_MAX: Final = 65_536
"""Longest body of an error that is read."""

METADATA_BYTES_MAX: Final = 1024 * 1024
"""Longest description of a model."""

_OK: Final = 200
_BROKEN_OFF: Final = "The Triton server broke off before the answer was complete."


class _Tensor(msgspec.Struct):
    name: str
    datatype: str = ""
    shape: list[int] = []


class _Metadata(msgspec.Struct):
    inputs: list[_Tensor]
    outputs: list[_Tensor] = []


class _Server(msgspec.Struct):
    version: str = ""


class _Setting(msgspec.Struct):
    string_value: str = ""


class _Policy(msgspec.Struct):
    decoupled: bool = False


class _Settings(msgspec.Struct):
    parameters: dict[str, _Setting] = {}
    model_transaction_policy: _Policy = msgspec.field(default_factory=_Policy)


class _Error(msgspec.Struct):
    error: str = ""


class _OutputParameters(msgspec.Struct):
    binary_data_size: int


class _OutputHead(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    parameters: _OutputParameters


class _Inferred(msgspec.Struct):
    outputs: list[_OutputHead]


class HttpGeneration:
    """One exchange; `_rest` holds the start of an event that has not come whole."""

    __slots__ = ("_bytes_max", "_exchange", "_failure", "_has_head", "_has_read", "_rest")

    def __init__(self, exchange: HttpExchange, *, bytes_max: int) -> None:
        self._exchange = exchange
        self._bytes_max = bytes_max
        self._rest = b""
        self._failure: ProviderError | None = None
        self._has_head = False
        self._has_read = False

    async def read(self, deadline_s: float) -> list[Outputs]:
        """Return the responses that have come; see `TritonGeneration.read`."""
        if self._failure is not None:
            raise self._failure
        try:
            if not self._has_head:
                await self._read_head(deadline_s)
            while True:
                data = await self._exchange.reader()(deadline_s)
                if not data:
                    if self._rest.strip():
                        raise ProviderError(Failure.INCOMPLETE, _BROKEN_OFF)
                    return []
                if responses := self._responses(data):
                    self._has_read = True
                    return responses
        except UpstreamError as error:
            raise self._failed(_upstream_error(error, deadline_s)) from error

    async def _read_head(self, deadline_s: float) -> None:
        head = await self._exchange.head(deadline_s)
        if head.status != _OK:
            body = await self._exchange.read_all(deadline_s, ERROR_BYTES_MAX)
            raise _status_error(head.status, body)
        self._has_head = True

    def _responses(self, data: bytes) -> list[Outputs]:
        if self._rest:
            data = self._rest + data
        *events, self._rest = data.split(b"\n\n")
        if len(self._rest) > self._bytes_max:
            raise ProviderError(Failure.INVALID_RESPONSE, "The Triton server's event is too long.")
        found: list[Outputs] = []
        for event in events:
            if not event.startswith(b"data:"):
                continue
            outputs = read_event(event[5:])
            error = outputs.get("error")
            if error is None:
                found.append(outputs)
            elif found:
                # What came before the error is handed over first.
                self._failure = ProviderError(Failure.INCOMPLETE, _BROKEN_OFF)
                break
            else:
                raise self._failed(error_of(str(error)))
        return found

    def _failed(self, error: ProviderError) -> ProviderError:
        if self._has_read and error.failure is not Failure.TIMEOUT:
            return ProviderError(Failure.INCOMPLETE, _BROKEN_OFF)
        return error

    async def finish(self) -> None:
        """Keep the connection: the end is on its way."""
        self._exchange.finish()

    def close(self) -> None:
        """Drop the connection, unless the answer is complete."""
        self._exchange.close()


class HttpTransport:
    """The way to one model over a pool of connections."""

    def __init__(self, config: TritonConfig, pool: HttpPool) -> None:
        self._config = config
        self._pool = pool
        path = f"/v2/models/{quote(config.model_name, safe='')}"
        if config.model_version:
            path += f"/versions/{quote(config.model_version, safe='')}"
        base = f"http://{config.http_address}"
        self._server = Target.of(base, "/v2")
        self._model = Target.of(base, path)
        self._ready = Target.of(base, f"{path}/ready")
        self._generate = Target.of(base, f"{path}/generate_stream")
        self._config_target = Target.of(base, f"{path}/config")
        self._infer = Target.of(base, f"{path}/infer")
        self._headers = build_headers(self._model, {})
        self._post_headers = build_headers(self._generate, {"content-type": "application/json"})

    async def signature(self, deadline_s: float) -> Signature:
        """Return the tensors of the model; see `TritonTransport.signature`."""
        status, body = await self._get(self._model, deadline_s)
        if status != _OK:
            raise _status_error(status, body)
        try:
            found = msgspec.json.decode(body, type=_Metadata)
        except msgspec.DecodeError as error:
            raise ProviderError(
                Failure.INVALID_RESPONSE, "The Triton server does not describe its model."
            ) from error
        return Signature(_specs(found.inputs), _specs(found.outputs))

    async def settings(self, deadline_s: float) -> ModelSettings:
        """Return what the configuration says; see `TritonTransport.settings`."""
        status, body = await self._get(self._config_target, deadline_s)
        if status != _OK:
            raise _status_error(status, body)
        try:
            found = msgspec.json.decode(body, type=_Settings)
        except msgspec.DecodeError as error:
            raise ProviderError(
                Failure.INVALID_RESPONSE, "The Triton server does not describe its model."
            ) from error
        given = {name: setting.string_value for name, setting in found.parameters.items()}
        return ModelSettings(given, found.model_transaction_policy.decoupled)

    async def is_ready(self, deadline_s: float) -> bool:
        """Return whether the model is ready; see `Way.is_ready`."""
        status, _ = await self._get(self._ready, deadline_s)
        return status == _OK

    async def version(self, deadline_s: float) -> str:
        """Return the version of the server; see `Way.version`."""
        status, body = await self._get(self._server, deadline_s)
        if status != _OK:
            raise _status_error(status, body)
        try:
            return msgspec.json.decode(body, type=_Server).version
        except msgspec.DecodeError as error:
            raise ProviderError(
                Failure.INVALID_RESPONSE, "The Triton server does not describe itself."
            ) from error

    async def start(self, request: Ask, _request_id: str, deadline_s: float) -> HttpGeneration:
        """Send a request on a connection of its own."""
        try:
            exchange = await self._pool.request(
                "POST",
                self._generate,
                headers=self._post_headers,
                body=json_body(request),
                connect_s=self._connect_s(deadline_s),
            )
        except UpstreamError as error:
            raise _upstream_error(error, deadline_s) from error
        return HttpGeneration(exchange, bytes_max=self._config.message_bytes_max)

    async def layout(self, deadline_s: float) -> ModelLayout:
        """Return the model's inputs and outputs; see `EmbeddingTransport.layout`."""
        status, body = await self._get(self._config_target, deadline_s)
        if status != _OK:
            raise _status_error(status, body)
        return read_layout(body)

    async def infer(
        self, request: TextsAsk, request_id: str, deadline_s: float
    ) -> Sequence[Output]:
        """Run one call; see `EmbeddingTransport.infer`.

        Outputs come as bytes behind the JSON. Source: triton-inference-server/server
        `docs/protocol/extension_binary_data.md`, read 2026-11.
        """
        binary = {"binary_data": True}
        given = {"name": request.input_name, "shape": request.shape, "datatype": "BYTES"}
        wanted = [{"name": name, "parameters": binary} for name in request.output_names]
        body = {"id": request_id, "inputs": [{**given, "data": request.texts}], "outputs": wanted}
        try:
            exchange = await self._pool.request(
                "POST",
                self._infer,
                headers=self._post_headers,
                body=msgspec.json.encode(body),
                connect_s=self._connect_s(deadline_s),
            )
            try:
                head = await exchange.head(deadline_s)
                answer = await exchange.read_all(deadline_s, self._config.message_bytes_max)
            finally:
                exchange.close()
        except UpstreamError as error:
            raise _upstream_error(error, deadline_s) from error
        if head.status != _OK:
            raise _status_error(head.status, answer)
        return _outputs(answer, head.headers.get(b"inference-header-content-length", b""))

    async def _get(self, target: Target, deadline_s: float) -> tuple[int, bytes]:
        return await _got(self._pool, target, self._headers, deadline_s, METADATA_BYTES_MAX)

    def _connect_s(self, deadline_s: float) -> float:
        left_s = deadline_s - asyncio.get_running_loop().time()
        return max(0.0, min(self._config.connect_s, left_s))


class MetricsReader:
    """Reads the queue of one server from its metrics; see `QueueReader`."""

    def __init__(self, address: str, model_name: str, pool: HttpPool) -> None:
        self._model_name = model_name
        self._pool = pool
        self._target = Target.of(f"http://{address}", "/metrics")
        self._headers = build_headers(self._target, {})

    async def read(self, deadline_s: float) -> Queue | None:
        """Return the queue; see `QueueReader.read`."""
        status, page = await _got(
            self._pool, self._target, self._headers, deadline_s, METRICS_BYTES_MAX
        )
        return read_queue(page, self._model_name) if status == _OK else None


async def _got(
    pool: HttpPool, target: Target, headers: bytes, deadline_s: float, bytes_max: int
) -> tuple[int, bytes]:
    """Return status and body of a GET."""
    left_s = max(0.0, deadline_s - asyncio.get_running_loop().time())
    try:
        exchange = await pool.request(
            "GET", target, headers=headers, connect_s=min(pool.limits.connect_s, left_s)
        )
        try:
            head = await exchange.head(deadline_s)
            return head.status, await exchange.read_all(deadline_s, bytes_max)
        finally:
            exchange.close()
    except UpstreamError as error:
        raise _upstream_error(error, deadline_s) from error


def _specs(tensors: Sequence[_Tensor]) -> dict[str, Spec]:
    return {each.name: Spec(each.datatype, len(each.shape)) for each in tensors}


def _outputs(answer: bytes, head_size: bytes) -> list[Output]:
    """Return the outputs of an answer whose JSON is so many bytes long."""
    try:
        at = int(head_size)
        heads = msgspec.json.decode(answer[:at], type=_Inferred).outputs
    except ValueError:
        raise malformed() from None
    outputs: list[Output] = []
    for head in heads:
        size = max(0, head.parameters.binary_data_size)
        outputs.append(Output(head.name, head.datatype, head.shape, answer[at : at + size]))
        at += size
    return outputs


def _status_error(status: int, body: bytes) -> ProviderError:
    text = body.strip().removeprefix(b"data:")
    try:
        message = msgspec.json.decode(text, type=_Error).error
    except msgspec.DecodeError:
        message = ""
    error = error_of(message)
    return ProviderError(error.failure, error.message, status=status, param=error.param)


def _upstream_error(error: UpstreamError, deadline_s: float) -> ProviderError:
    """Return what went wrong; past the request's own deadline nothing is the server's fault."""
    is_late = asyncio.get_running_loop().time() >= deadline_s
    if is_late or isinstance(error, UpstreamTimeoutError):
        return ProviderError(Failure.TIMEOUT, "The Triton server was silent for too long.")
    if isinstance(error, UpstreamConnectError):
        return ProviderError(Failure.CONNECT, "The Triton server cannot be reached.")
    if isinstance(error, UpstreamBusyError):
        return ProviderError(
            Failure.UNAVAILABLE, "All connections to the Triton server are in use."
        )
    if isinstance(error, UpstreamClosedError):
        return ProviderError(Failure.UNAVAILABLE, "The Triton server closed the connection.")
    return ProviderError(
        Failure.INVALID_RESPONSE, "The Triton server's answer is not HTTP as asked for."
    )


@asynccontextmanager
async def open_http_transport(
    config: TritonConfig, pool: HttpPool | None
) -> AsyncIterator[HttpTransport]:
    """Open a transport on `pool`, or on connections of its own."""
    if pool is not None:
        yield HttpTransport(config, pool)
        return
    limits = HttpLimits(connections_max=config.connections_max, connect_s=config.connect_s)
    async with open_http_pool(limits) as own:
        yield HttpTransport(config, own)
