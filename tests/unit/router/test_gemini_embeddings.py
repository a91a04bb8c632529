"""Vectors of both places, asked for and read."""

import json
from typing import Any

import msgspec
import pytest
from google.genai import types

from services.router.providers.google.gemini_codec import GeminiCodec
from services.router.providers.port import Batch, Body, Call, Failure, ProviderError
from tests.fakes.gemini_calls import gemini_call
from tests.fakes.gemini_script import Json, dumps, status
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2

STUDIO, VERTEX = GeminiCodec("ai_studio"), GeminiCodec("vertex")


def body_of(**fields: Any) -> Body:
    request = {"input": ["a", "b"], **fields}
    return msgspec.json.decode(msgspec.json.encode(request), type=Body)


def call() -> Call:
    return gemini_call(
        upstream_model="gemini-embedding-001",
        is_streaming=False,
        operation=router_pb2.OPERATION_EMBEDDING,
    )


def studio(vectors: list[list[float]], tokens: int | None = 5) -> bytes:
    answer: Json = {"embeddings": [{"values": vector} for vector in vectors]}
    if tokens is not None:
        answer["usageMetadata"] = {"promptTokenCount": tokens}
    return dumps(answer)


def vertex(vectors: list[list[float]], *tokens: float | None, **more: Any) -> bytes:
    counts = tokens or (2.0,) * len(vectors)
    found = []
    for vector, count in zip(vectors, counts, strict=True):
        statistics = {"token_count": count, "truncated": False, **more}
        found.append({"embeddings": {"values": vector, "statistics": statistics}})
    return dumps({"predictions": found})


def told(batch: Batch) -> tuple[list[Any], int, bool]:
    answer = json.loads(batch.completion)
    usage = batch.finish.usage
    is_exact = usage.source == usage_pb2.USAGE_SOURCE_UPSTREAM
    return [one["embedding"] for one in answer["data"]], usage.prompt_token_count, is_exact


def test_batch_names_the_model_in_each_request() -> None:
    outgoing = STUDIO.encode(call(), body_of(dimensions=2, user="u"), {})

    model = "models/gemini-embedding-001"
    requests = json.loads(outgoing.body)["requests"]
    assert f"/{model}:batchEmbedContents" == outgoing.path
    assert ("user",) == outgoing.ignored
    assert [model, model] == [request.pop("model") for request in requests]
    assert [2, 2] == [request.pop("outputDimensionality") for request in requests]
    texts = [types.Content.model_validate(request["content"]) for request in requests]
    assert ["a", "b"] == [(content.parts or [])[0].text for content in texts]


def test_predict_cuts_nothing_short() -> None:
    outgoing = VERTEX.encode(call(), body_of(input="a"), {})

    assert "/publishers/google/models/gemini-embedding-001:predict" == outgoing.path
    assert {
        "instances": [{"content": "a"}],
        "parameters": {"autoTruncate": False},
    } == json.loads(outgoing.body)


@pytest.mark.parametrize("codec", [STUDIO, VERTEX])
def test_tokens_are_another_routes(codec: GeminiCodec) -> None:
    with pytest.raises(ProviderError) as caught:
        codec.encode(call(), body_of(input=[1, 2]), {})

    assert (Failure.UNSUPPORTED, "input") == (caught.value.failure, caught.value.param)


def test_vectors_and_tokens_of_both_places_are_told() -> None:
    vectors = [[0.5, -1.0], [2.0, 0.25]]

    assert (vectors, 5, True) == told(STUDIO.read(call(), body_of(), studio(vectors)))
    assert (vectors, 4, True) == told(VERTEX.read(call(), body_of(), vertex(vectors)))


def test_vectors_are_packed_where_wished() -> None:
    body = body_of(input="a", encoding_format="base64")

    assert (["AAAAPwAAgL8="], 5, True) == told(STUDIO.read(call(), body, studio([[0.5, -1.0]])))


def test_missing_count_is_not_made_up() -> None:
    vectors = [[0.5], [1.0]]

    assert not told(STUDIO.read(call(), body_of(), studio(vectors, None)))[2]
    assert not told(VERTEX.read(call(), body_of(), vertex(vectors, 1, None)))[2]


@pytest.mark.parametrize(
    ("codec", "answer"),
    [
        (STUDIO, b"{oops"),
        (STUDIO, studio([[0.5]])),
        (STUDIO, studio([[0.5], [0.5, 1.0]])),
        (STUDIO, studio([[0.5], [1e300]])),
        (STUDIO, studio([[], []])),
        (STUDIO, studio([[0.5], [0.5]], -1)),
        (VERTEX, b"[]"),
        (VERTEX, vertex([[0.5], [1.0]], truncated=True)),
        (VERTEX, vertex([[0.5]])),
    ],
)
def test_other_vectors_than_asked_for_are_refused(codec: GeminiCodec, answer: bytes) -> None:
    with pytest.raises(ProviderError) as caught:
        codec.read(call(), body_of(), answer)

    assert Failure.INVALID_RESPONSE is caught.value.failure


@pytest.mark.parametrize("codec", [STUDIO, VERTEX])
def test_error_in_an_answer_is_an_error(codec: GeminiCodec) -> None:
    with pytest.raises(ProviderError) as caught:
        codec.read(call(), body_of(), dumps(status(429, "RESOURCE_EXHAUSTED")))

    assert Failure.RATE_LIMITED is caught.value.failure


def test_dimensions_are_held_against_the_vectors() -> None:
    with pytest.raises(ProviderError):
        STUDIO.read(call(), body_of(dimensions=3), studio([[0.5], [1.0]]))
