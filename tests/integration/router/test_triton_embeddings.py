"""Embeddings of a real Triton through the adapter: every contract, over both transports."""

import asyncio
import base64
import math
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from services.router.providers.port import Batch, Body, Call, Failure, ProviderError
from services.router.providers.triton.embedder import TritonEmbedder, open_triton_embedder
from services.router.providers.triton.port import TritonConfig
from services.router.providers.triton.vectors import EmbeddingTensors
from tests.fixtures.triton import Triton
from tests.integration.router.triton_calls import PATIENCE_S, Transport, a_call
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2

pytestmark = pytest.mark.timeout(180)
RENAMED = EmbeddingTensors(text="sentences", embedding="vectors")
TENSORS = {"tiny-renamed": RENAMED, "tiny-single": RENAMED}
EVERY_MODEL = ["tiny-embed", "tiny-renamed", "tiny-single", "tiny-vllm"]
TEXTS = ["The sea is salty.", "Why is the sea salty?", "A café — ünïcode 😀", "boats"]


@pytest.fixture(params=["grpc", "http"])
def transport(request: pytest.FixtureRequest) -> Transport:
    chosen: Transport = request.param
    return chosen


class Rig:
    def __init__(self, server: Triton, transport: Transport) -> None:
        self._server = server
        self._transport: Transport = transport

    @asynccontextmanager
    async def opened(
        self, model: str, tensors: EmbeddingTensors | None = None, **changes: Any
    ) -> AsyncIterator[TritonEmbedder]:
        usual = {
            "model_name": model,
            "grpc_address": self._server.grpc_address,
            "http_address": self._server.http_address,
            "transport": self._transport,
        }
        config = TritonConfig(**{**usual, **changes})
        wanted = tensors or TENSORS.get(model, EmbeddingTensors())
        async with open_triton_embedder(config, wanted) as provider:
            yield provider

    async def ask(self, model: str, tensors: EmbeddingTensors | None = None, **body: Any) -> Batch:
        async with self.opened(model, tensors) as provider:
            return await run(provider, a_body(**body))


@pytest.fixture
def rig(triton: Triton, transport: Transport) -> Rig:
    return Rig(triton, transport)


def a_body(**fields: Any) -> Body:
    given = {"model": "tiny", **fields}
    return msgspec.json.decode(msgspec.json.encode(given), type=dict[str, msgspec.Raw])


def embedding_call() -> Call:
    return a_call(is_streaming=False, max_tokens=0, operation=router_pb2.OPERATION_EMBEDDING)


async def run(provider: TritonEmbedder, body: Body, wait_s: float = PATIENCE_S) -> Batch:
    deadline_s = asyncio.get_running_loop().time() + wait_s
    batches = [b async for b in provider.stream(embedding_call(), body, deadline_s=deadline_s)]
    (batch,) = batches
    return batch


async def refusal(rig: Rig, model: str, **body: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await rig.ask(model, **body)
    return caught.value


def vectors_of(batch: Batch) -> list[list[float]]:
    answer = msgspec.json.decode(batch.completion)
    assert "list" == answer["object"]
    assert list(range(len(answer["data"]))) == [entry["index"] for entry in answer["data"]]
    assert {"embedding"} == {entry["object"] for entry in answer["data"]}
    return [entry["embedding"] for entry in answer["data"]]


def near(left: list[float], right: list[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("model", EVERY_MODEL)
async def test_every_contract_gives_the_same_vectors_in_order(rig: Rig, model: str) -> None:
    expected = [vectors_of(await rig.ask("tiny-embed", input=text))[0] for text in TEXTS]

    batch = await rig.ask(model, input=TEXTS)

    found = vectors_of(batch)
    for one, other in zip(expected, found, strict=True):
        assert pytest.approx(one, abs=1e-6) == other
    assert {64} == {len(vector) for vector in found}
    assert near(found[0], found[1]) > near(found[0], found[3])


@pytest.mark.parametrize("model", EVERY_MODEL)
async def test_base64_and_floats_are_the_same_numbers(rig: Rig, model: str) -> None:
    floats = vectors_of(await rig.ask(model, input=TEXTS, encoding_format="float"))
    texts = vectors_of(await rig.ask(model, input=TEXTS, encoding_format="base64"))

    unpacked = [struct.unpack("<64f", base64.b64decode(text)) for text in texts]  # type: ignore[arg-type]
    assert floats == [list(vector) for vector in unpacked]


@pytest.mark.parametrize(
    ("model", "source", "prompt_tokens"),
    [
        ("tiny-embed", usage_pb2.USAGE_SOURCE_UPSTREAM, 5 + 6 + 5 + 1),
        ("tiny-vllm", usage_pb2.USAGE_SOURCE_UPSTREAM, 5 + 6 + 5 + 1),
        ("tiny-renamed", usage_pb2.USAGE_SOURCE_ESTIMATED, 0),
    ],
)
async def test_tokens_are_the_models_own_or_marked_as_not_counted(
    rig: Rig, model: str, source: int, prompt_tokens: int
) -> None:
    batch = await rig.ask(model, input=TEXTS)

    usage = batch.finish.usage
    assert (source, prompt_tokens, 0) == (
        usage.source,
        usage.prompt_token_count,
        usage.completion_token_count,
    )
    told = msgspec.json.decode(batch.completion).get("usage")
    counted = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}
    assert (counted if prompt_tokens else None) == told


@pytest.mark.parametrize("model", EVERY_MODEL)
async def test_many_inputs_go_out_in_batches_that_the_model_takes(rig: Rig, model: str) -> None:
    texts = [f"text number {index} of many" for index in range(150)]

    batch = await rig.ask(model, input=texts)

    found = vectors_of(batch)
    assert 150 == len(found)
    assert found[149] == vectors_of(await rig.ask(model, input=texts[149]))[0]


async def test_shortened_vectors_are_the_first_numbers_at_length_one(rig: Rig) -> None:
    tensors = EmbeddingTensors(is_shortenable=True)
    whole = vectors_of(await rig.ask("tiny-embed", input="boats and ships"))[0]

    short = vectors_of(await rig.ask("tiny-embed", tensors, input="boats and ships", dimensions=8))

    norm = math.sqrt(near(whole[:8], whole[:8]))
    assert pytest.approx([x / norm for x in whole[:8]], abs=1e-6) == short[0]


async def test_vllm_shortens_by_itself(rig: Rig) -> None:
    tensors = EmbeddingTensors(is_shortenable=True)

    short = vectors_of(await rig.ask("tiny-vllm", tensors, input=TEXTS, dimensions=8))

    assert {8} == {len(vector) for vector in short}


@pytest.mark.parametrize("model", EVERY_MODEL)
async def test_dimensions_of_a_model_that_cannot_are_refused(rig: Rig, model: str) -> None:
    error = await refusal(rig, model, input="boats", dimensions=8)

    assert (Failure.UNSUPPORTED, "dimensions") == (error.failure, error.param)


async def test_more_dimensions_than_there_are_is_the_clients_fault(rig: Rig) -> None:
    tensors = EmbeddingTensors(is_shortenable=True)

    with pytest.raises(ProviderError) as caught:
        await rig.ask("tiny-embed", tensors, input="boats", dimensions=65)

    assert (Failure.REJECTED, "dimensions") == (caught.value.failure, caught.value.param)


async def test_token_ids_go_to_the_one_contract_that_takes_them(rig: Rig) -> None:
    refused = await refusal(rig, "tiny-embed", input=[1, 2, 3])
    one = await rig.ask("tiny-vllm", input=[1, 2, 3])
    two = await rig.ask("tiny-vllm", input=[[1, 2, 3], [4]])

    assert (Failure.UNSUPPORTED, "input") == (refused.failure, refused.param)
    assert vectors_of(one)[0] == vectors_of(two)[0]
    assert (3, 4) == tuple(b.finish.usage.prompt_token_count for b in (one, two))


async def test_text_longer_than_the_models_context_is_the_clients_fault(rig: Rig) -> None:
    error = await refusal(rig, "tiny-embed", input=["short", "word " * 3000])

    assert Failure.CONTEXT_LENGTH is error.failure


@pytest.mark.parametrize("model", ["tiny-renamed", "tiny-single", "tiny-vllm"])
async def test_model_that_fails_in_the_middle_fails_the_whole_without_its_text(
    rig: Rig, model: str
) -> None:
    error = await refusal(rig, model, input=[*TEXTS * 30, "[crash] secret", *TEXTS])

    assert error.failure in (Failure.INVALID_RESPONSE, Failure.INCOMPLETE)
    assert "secret" not in error.message


@pytest.mark.parametrize(
    ("model", "tensors", "failure"),
    [
        ("tiny-absent", EmbeddingTensors(), Failure.NOT_FOUND),
        ("tiny-embed", EmbeddingTensors(text="other"), Failure.INVALID_RESPONSE),
        ("tiny-embed", EmbeddingTensors(embedding="other"), Failure.INVALID_RESPONSE),
        ("tiny-chat", EmbeddingTensors(), Failure.INVALID_RESPONSE),
    ],
)
async def test_model_that_does_not_fit_is_told_apart(
    rig: Rig, model: str, tensors: EmbeddingTensors, failure: Failure
) -> None:
    with pytest.raises(ProviderError) as caught:
        await rig.ask(model, tensors, input="boats")

    assert failure is caught.value.failure


async def test_server_that_is_not_there_and_one_too_slow_are_told_apart(rig: Rig) -> None:
    async with rig.opened(
        "tiny-embed", grpc_address="127.0.0.1:1", http_address="127.0.0.1:1"
    ) as provider:
        with pytest.raises(ProviderError) as absent:
            await run(provider, a_body(input="boats"))
        assert not await provider.probe()
    async with rig.opened("tiny-single") as provider:
        await run(provider, a_body(input="boats"))
        with pytest.raises(ProviderError) as late:
            await run(provider, a_body(input=TEXTS * 400), wait_s=0.01)
        assert await provider.probe()

    assert Failure.CONNECT is absent.value.failure
    assert Failure.TIMEOUT is late.value.failure


async def test_chat_is_no_business_of_an_embedder(rig: Rig) -> None:
    async with rig.opened("tiny-embed") as provider:
        with pytest.raises(ProviderError) as caught:
            async for _ in provider.stream(a_call(), a_body(messages=[]), deadline_s=0.0):
                pass

    assert Failure.UNSUPPORTED is caught.value.failure


async def test_fields_that_change_nothing_are_named(rig: Rig) -> None:
    batch = await rig.ask("tiny-embed", input="boats", user="u-1", flavour="x")

    assert ["flavour", "user"] == list(batch.route.ignored_parameters)
