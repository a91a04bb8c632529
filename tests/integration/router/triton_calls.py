"""What the tests of the Triton adapter have in common: calls, bodies, and whole answers."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import pytest

from kit.clock import SystemClock
from services.router.providers.port import Batch, Body, Call, ProviderError
from services.router.providers.triton.adapter import TritonProvider, open_triton
from services.router.providers.triton.grpc import open_grpc_transport
from services.router.providers.triton.http import open_http_transport
from services.router.providers.triton.port import TritonConfig, TritonTransport
from services.router.providers.triton.wire import Ask
from services.router.template import ChatTemplate, load_chat_template
from tests.fixtures.triton import EXAMPLE, Triton

HEAD = b'{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"tiny",'
PATIENCE_S = 30.0
Open = Callable[..., AbstractAsyncContextManager[TritonProvider]]
Transport = Literal["grpc", "http"]


@dataclass
class Outcome:
    """An answer put together from its batches."""

    batches: list[Batch] = field(default_factory=list)

    @property
    def text(self) -> str:
        last = self.batches[-1]
        if last.completion:
            message: str = msgspec.json.decode(last.completion)["choices"][0]["message"]["content"]
            return message
        return "".join(delta.get("content", "") for delta in self.deltas)

    @property
    def choices(self) -> list[dict[str, Any]]:
        events = b"".join(batch.sse for batch in self.batches).split(b"\n\n")[:-1]
        chunks = [msgspec.json.decode(event.removeprefix(b"data: ")) for event in events]
        return [choice for chunk in chunks for choice in chunk["choices"]]

    @property
    def deltas(self) -> list[dict[str, Any]]:
        return [choice["delta"] for choice in self.choices]

    @property
    def completion_tokens(self) -> int:
        return self.batches[-1].finish.usage.completion_token_count


TEMPLATE_PATH = EXAMPLE / "models" / "tiny-chat" / "1" / "tokenizer_config.json"


def tiny_template() -> ChatTemplate:
    return load_chat_template(TEMPLATE_PATH, clock=SystemClock())


def opener(server: Triton, transport: Transport) -> Open:
    @asynccontextmanager
    async def open_model(
        model_name: str = "tiny-chat", **changes: Any
    ) -> AsyncIterator[TritonProvider]:
        config = TritonConfig(
            model_name=model_name,
            template=tiny_template(),
            grpc_address=server.grpc_address,
            http_address=server.http_address,
            transport=transport,
            **changes,
        )
        async with open_triton(config) as provider:
            yield provider

    return open_model


def a_call(**changes: Any) -> Call:
    given: dict[str, Any] = {
        "request_id": "r-1",
        "answer_id": "chatcmpl-1",
        "create_unix_s": 1,
        "model_id": "tiny",
        "upstream_model": "tiny-chat",
        "is_streaming": True,
        "max_tokens": 20,
        "chunk_head": HEAD,
        "idle_s": PATIENCE_S,
    }
    return Call(**{**given, **changes})


def a_body(question: str = "Why is the sea salty?", **fields: Any) -> Body:
    fields.setdefault("messages", [{"role": "user", "content": question}])
    return msgspec.json.decode(msgspec.json.encode(fields), type=dict[str, msgspec.Raw])


def stream(
    provider: TritonProvider, call: Call, body: Body, wait_s: float = PATIENCE_S
) -> AsyncGenerator[Batch, None]:
    return provider.stream(call, body, deadline_s=asyncio.get_running_loop().time() + wait_s)


async def run(provider: TritonProvider, call: Call, body: Body) -> Outcome:
    return Outcome([batch async for batch in stream(provider, call, body)])


@asynccontextmanager
async def open_transport(
    server: Triton, transport: Transport, model_name: str
) -> AsyncIterator[TritonTransport]:
    config = TritonConfig(
        model_name=model_name,
        template=tiny_template(),
        grpc_address=server.grpc_address,
        http_address=server.http_address,
    )
    if transport == "grpc":
        async with open_grpc_transport(config) as grpc_way:
            yield grpc_way
    else:
        async with open_http_transport(config, None) as http_way:
            yield http_way


async def start_failure(way: TritonTransport, request: Ask) -> ProviderError:
    deadline_s = asyncio.get_running_loop().time() + PATIENCE_S
    generation = await way.start(request, "r-1", deadline_s)
    try:
        with pytest.raises(ProviderError) as caught:
            await generation.read(deadline_s)
    finally:
        generation.close()
    return caught.value


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.02)


async def failure_of(
    provider: TritonProvider, call: Call, body: Body, *, wait_s: float = PATIENCE_S
) -> tuple[ProviderError, list[Batch]]:
    batches: list[Batch] = []

    async def gather() -> None:
        async for batch in stream(provider, call, body, wait_s):
            batches.append(batch)  # noqa: PERF401 - what came before the error must be kept

    with pytest.raises(ProviderError) as caught:
        await gather()
    return caught.value, batches


async def run_out(batches: AsyncIterator[Batch]) -> None:
    async for _ in batches:
        pass
