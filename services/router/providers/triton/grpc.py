"""Triton over gRPC: one `ModelStreamInfer` call per request, all on one channel.

The call is made as one request with many responses: its single message and the end of the
sending side leave together, so the server never sees a stream that is open at our end, which it
could not drain. grpc.aio reads one message at a time and cannot tell whether the next one is
there, so deltas are not merged here. Errors come as text inside a good call; any ends the request.

Source: triton-inference-server/common `protobuf/grpc_service.proto`, read 2026-01.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from services.router.providers.port import Failure, ProviderError
from services.router.providers.triton.errors import error_of
from services.router.providers.triton.port import TritonConfig
from services.router.providers.triton.vectors import (
    ModelLayout,
    Output,
    TensorLayout,
    TextsAsk,
    texts_content,
)
from services.router.providers.triton.wire import (
    Ask,
    ModelSettings,
    Outputs,
    Signature,
    Spec,
    content,
    read_raw,
)
from services.router.providers.vectors import malformed

_SERVICE: Final = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
_STREAM_INFER: Final = f"/{_SERVICE.full_name}/ModelStreamInfer"
_LEFT_MIN_S: Final = 0.001
_RECONNECT_MIN_MS: Final = 100
_RECONNECT_MAX_MS: Final = 2_000
_BROKEN_OFF: Final = "The Triton server broke off before the answer was complete."


class GrpcGeneration:
    """One call; a single loop timer guards all of its reads."""

    __slots__ = ("_call", "_deadline_s", "_end_s", "_has_read", "_is_late", "_loop", "_timer")

    def __init__(self, call: Any, *, end_s: float) -> None:  # noqa: ANN401 - grpc.aio's call is untyped here
        self._call = call
        self._end_s = end_s
        self._loop = asyncio.get_running_loop()
        self._deadline_s = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._is_late = False
        self._has_read = False

    async def read(self, deadline_s: float) -> list[Outputs]:
        """Return the next response; see `TritonGeneration.read`."""
        while True:
            message = await self._next(deadline_s)
            if message is grpc.aio.EOF:
                return []
            if message.error_message:
                raise self._failed(error_of(message.error_message))
            response = message.infer_response
            outputs = read_raw(
                [(tensor.name, tensor.datatype) for tensor in response.outputs],
                response.raw_output_contents,
            )
            if outputs is not None:
                self._has_read = True
                return [outputs]

    async def _next(self, deadline_s: float) -> Any:  # noqa: ANN401 - a message or EOF
        self._arm(deadline_s)
        try:
            return await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise self._failed(_rpc_error(error)) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._is_late and (task is None or not task.cancelling()):
                raise ProviderError(
                    Failure.TIMEOUT, "The Triton server was silent for too long."
                ) from None
            raise
        finally:
            self._deadline_s = math.inf

    def _failed(self, error: ProviderError) -> ProviderError:
        return ProviderError(Failure.INCOMPLETE, _BROKEN_OFF) if self._has_read else error

    async def finish(self) -> None:
        """Read to the end, which is on its way, so that nothing has to be cancelled."""
        until_s = self._loop.time() + self._end_s
        try:
            while await self.read(until_s):
                pass
        except ProviderError:
            return

    def close(self) -> None:
        """Cancel the call, unless it has ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._call.cancel()

    def _arm(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        if self._timer is None or self._timer.when() > deadline_s:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(deadline_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._loop.time() >= self._deadline_s:
            self._is_late = True
            self._call.cancel()
        elif self._deadline_s < math.inf:
            self._timer = self._loop.call_at(self._deadline_s, self._on_timer)


class GrpcTransport:
    """The way to one model over one channel."""

    def __init__(self, config: TritonConfig, channel: grpc.aio.Channel) -> None:
        self._config = config
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        self._infer = channel.unary_stream(
            _STREAM_INFER,
            request_serializer=service_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=service_pb2.ModelStreamInferResponse.FromString,
        )

    async def signature(self, deadline_s: float) -> Signature:
        """Return the tensors of the model; see `TritonTransport.signature`."""
        request = service_pb2.ModelMetadataRequest(
            name=self._config.model_name, version=self._config.model_version
        )
        try:
            answer = await self._stub.ModelMetadata(request, timeout=_left_s(deadline_s))
        except grpc.aio.AioRpcError as error:
            raise _rpc_error(error) from None
        return Signature(_specs(answer.inputs), _specs(answer.outputs))

    async def settings(self, deadline_s: float) -> ModelSettings:
        """Return what the configuration says; see `TritonTransport.settings`."""
        config = await self._model_config(deadline_s)
        given = {name: value.string_value for name, value in config.parameters.items()}
        return ModelSettings(given, bool(config.model_transaction_policy.decoupled))

    async def is_ready(self, deadline_s: float) -> bool:
        """Return whether the model is ready; see `Way.is_ready`."""
        request = service_pb2.ModelReadyRequest(
            name=self._config.model_name, version=self._config.model_version
        )
        try:
            answer = await self._stub.ModelReady(request, timeout=_left_s(deadline_s))
        except grpc.aio.AioRpcError as error:
            raise _rpc_error(error) from None
        return bool(answer.ready)

    async def version(self, deadline_s: float) -> str:
        """Return the version of the server; see `Way.version`."""
        request = service_pb2.ServerMetadataRequest()
        try:
            answer = await self._stub.ServerMetadata(request, timeout=_left_s(deadline_s))
        except grpc.aio.AioRpcError as error:
            raise _rpc_error(error) from None
        return str(answer.version)

    async def start(self, request: Ask, request_id: str, _deadline_s: float) -> GrpcGeneration:
        """Send a request; connecting, if need be, is part of the first read."""
        message = service_pb2.ModelInferRequest(
            model_name=self._config.model_name,
            model_version=self._config.model_version,
            id=request_id,
        )
        for each in request:
            message.inputs.add(name=each.name, datatype=each.datatype, shape=each.shape)
            message.raw_input_contents.append(content(each))
        return GrpcGeneration(self._infer(message), end_s=self._config.end_s)

    async def layout(self, deadline_s: float) -> ModelLayout:
        """Return the model's inputs and outputs; see `EmbeddingTransport.layout`."""
        config = await self._model_config(deadline_s)
        return ModelLayout(_layouts(config.input), _layouts(config.output), config.max_batch_size)

    async def _model_config(self, deadline_s: float) -> Any:  # noqa: ANN401 - an untyped message
        request = service_pb2.ModelConfigRequest(
            name=self._config.model_name, version=self._config.model_version
        )
        try:
            answer = await self._stub.ModelConfig(request, timeout=_left_s(deadline_s))
        except grpc.aio.AioRpcError as error:
            raise _rpc_error(error) from None
        return answer.config

    async def infer(
        self, request: TextsAsk, request_id: str, deadline_s: float
    ) -> Sequence[Output]:
        """Run one call; see `EmbeddingTransport.infer`."""
        message = service_pb2.ModelInferRequest(
            model_name=self._config.model_name,
            model_version=self._config.model_version,
            id=request_id,
        )
        message.inputs.add(name=request.input_name, datatype="BYTES", shape=request.shape)
        message.raw_input_contents.append(texts_content(request.texts))
        for name in request.output_names:
            message.outputs.add(name=name)
        try:
            answer = await self._stub.ModelInfer(message, timeout=_left_s(deadline_s))
        except grpc.aio.AioRpcError as error:
            raise _rpc_error(error) from None
        if len(answer.outputs) != len(answer.raw_output_contents):
            raise malformed()
        contents = zip(answer.outputs, answer.raw_output_contents, strict=True)
        return [Output(o.name, o.datatype, list(o.shape), raw) for o, raw in contents]


def _specs(tensors: Any) -> dict[str, Spec]:  # noqa: ANN401 - Triton's messages are untyped
    return {tensor.name: Spec(tensor.datatype, len(tensor.shape)) for tensor in tensors}


def _layouts(tensors: Any) -> list[TensorLayout]:  # noqa: ANN401 - Triton's messages are untyped
    kinds = model_config_pb2.DataType
    return [TensorLayout(t.name, kinds.Name(t.data_type), list(t.dims)) for t in tensors]


def _left_s(deadline_s: float) -> float | None:
    if deadline_s == math.inf:
        return None
    # To grpc.aio a timeout of 0 is none at all.
    return max(_LEFT_MIN_S, deadline_s - asyncio.get_running_loop().time())


_FAILURES: Final = {
    grpc.StatusCode.DEADLINE_EXCEEDED: (Failure.TIMEOUT, "The Triton server was too slow."),
    grpc.StatusCode.UNAUTHENTICATED: (Failure.CREDENTIALS, "The Triton server refused us."),
    grpc.StatusCode.PERMISSION_DENIED: (Failure.CREDENTIALS, "The Triton server refused us."),
    grpc.StatusCode.CANCELLED: (Failure.INCOMPLETE, _BROKEN_OFF),
}


def _rpc_error(error: grpc.aio.AioRpcError) -> ProviderError:
    """Return what a status means; it is not chained, because its details are upstream text."""
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE:
        if "connect" in details.lower():
            return ProviderError(Failure.CONNECT, "The Triton server cannot be reached.")
        return ProviderError(Failure.UNAVAILABLE, "The Triton server is not available.")
    if code in _FAILURES:
        return ProviderError(*_FAILURES[code])
    return error_of(details)


@asynccontextmanager
async def open_grpc_transport(config: TritonConfig) -> AsyncIterator[GrpcTransport]:
    """Open a channel to the server; it connects on first use."""
    options = [
        ("grpc.max_receive_message_length", config.message_bytes_max),
        ("grpc.initial_reconnect_backoff_ms", _RECONNECT_MIN_MS),
        ("grpc.min_reconnect_backoff_ms", round(config.connect_s * 1000)),
        ("grpc.max_reconnect_backoff_ms", _RECONNECT_MAX_MS),
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    async with grpc.aio.insecure_channel(config.grpc_address, options=options) as channel:
        yield GrpcTransport(config, channel)
