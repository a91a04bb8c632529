"""OpenAI's embeddings as codec: the vectors that were asked for, or a failure."""

import base64
import json
import math
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.providers.openai.embeddings import encode_embeddings_request, read_embeddings
from services.router.providers.port import Body, Failure, ProviderError
from services.router.providers.vectors import (
    ANSWER_BYTES_MAX,
    answer_of,
    decoded,
    encoded,
    shortened,
)
from tests.fakes.openai_calls import make_call
from tests.fakes.openai_script import Script
from tests.fakes.openai_texts import embeddings_body, vector_of
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2

UPSTREAM, ESTIMATED = usage_pb2.USAGE_SOURCE_UPSTREAM, usage_pb2.USAGE_SOURCE_ESTIMATED
CALL = make_call(is_streaming=False, operation=router_pb2.OPERATION_EMBEDDING)
THREE = ["a", "b", "c"]


def body_of(**fields: Any) -> Body:
    request = {"model": "ours/model", "input": THREE, **fields}
    return msgspec.json.decode(msgspec.json.encode(request), type=Body)


def read(script: Script | None = None, **fields: Any) -> router_pb2.RunResponse:
    request = {"input": THREE, **fields}
    return read_embeddings(
        CALL, body_of(**request), embeddings_body(script or Script(), request)[0]
    )


def test_request_goes_out_as_it_came_under_the_upstreams_name() -> None:
    body = body_of(dimensions=8, encoding_format="base64", user="u", extra=[1])

    sent = json.loads(encode_embeddings_request(CALL, body))

    assert {
        "model": "upstream-model",
        "input": THREE,
        "dimensions": 8,
        "encoding_format": "base64",
        "user": "u",
        "extra": [1],
    } == sent


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
@pytest.mark.parametrize("vectors", ["", "reversed", "respelled"])
def test_vectors_come_in_order_and_spelled_as_asked(encoding: str | None, vectors: str) -> None:
    fields = {} if encoding is None else {"encoding_format": encoding}

    answer = json.loads(read(Script(vectors=vectors), **fields).completion)

    assert ["object", "data", "model", "usage"] == list(answer)
    assert ("list", "ours/model") == (answer["object"], answer["model"])
    assert [0, 1, 2] == [entry["index"] for entry in answer["data"]]
    for index, entry in enumerate(answer["data"]):
        vector = entry["embedding"]
        if encoding == "base64":
            vector = list(struct.unpack("<8f", base64.b64decode(vector)))
        assert vector_of(index) == vector


@pytest.mark.parametrize("encoding", ["float", "base64"])
@pytest.mark.parametrize("vectors", ["fewer", "more", "twice", "ragged", "empty", "stubborn"])
def test_other_vectors_than_asked_for_are_a_failure(encoding: str, vectors: str) -> None:
    with pytest.raises(ProviderError) as caught:
        read(Script(vectors=vectors), encoding_format=encoding, dimensions=4)

    assert Failure.INVALID_RESPONSE is caught.value.failure


def test_as_many_dimensions_as_asked_for_are_good() -> None:
    for encoding in ("float", "base64"):
        for dimensions in (1, 2, 3, 4, 5, 64, 1536):
            read(encoding_format=encoding, dimensions=dimensions)


@pytest.mark.parametrize("given", ["a", [1, 2, 3], ["a"], [[1, 2, 3]]])
def test_one_input_has_one_vector_whatever_its_form(given: Any) -> None:
    assert 1 == len(json.loads(read(input=given).completion)["data"])


@pytest.mark.parametrize(
    ("usage", "source", "tokens", "told"),
    [
        (b'{"prompt_tokens":12,"total_tokens":12}', UPSTREAM, 12, 12),
        (b'{"prompt_tokens":12}', UPSTREAM, 12, 12),
        (b'{"total_tokens":12.0}', UPSTREAM, 12, 12),
        (b'{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17}', UPSTREAM, 12, 12),
        (b'{"prompt_tokens":0,"total_tokens":0}', UPSTREAM, 0, 0),
        (b"{}", ESTIMATED, 0, None),
        (b"null", ESTIMATED, 0, None),
    ],
)
def test_usage_is_the_prompt_alone(usage: bytes, source: int, tokens: int, told: int) -> None:
    answer = b'{"data":[{"index":0,"embedding":[1.0]}],"usage":%b}' % usage

    batch = read_embeddings(CALL, body_of(input="a"), answer)

    found = json.loads(batch.completion).get("usage")
    assert (source, tokens, 0) == (
        batch.finish.usage.source,
        batch.finish.usage.prompt_token_count,
        batch.finish.usage.completion_token_count,
    )
    assert (None if told is None else {"prompt_tokens": told, "total_tokens": told}) == found


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"{}",
        b'{"data":null}',
        b'{"data":[]}',
        b'{"data":[{"index":0}]}',
        b'{"data":[{"index":"0","embedding":[1.0]}]}',
        b'{"data":[{"index":1,"embedding":[1.0]}]}',
        b'{"data":[{"index":0,"embedding":{"x":1}}]}',
        b'{"data":[{"index":0,"embedding":"not base64"}]}',
        b'{"data":[{"index":0,"embedding":[]}]}',
        b'{"data":[{"index":0,"embedding":[1.0]}],"usage":{"prompt_tokens":-1}}',
        b'{"data":[{"index":0,"embedding":[1.0]}],"usage":{"prompt_tokens":1.5}}',
        b'{"data":[{"index":0,"embedding":[1.0]}],"usage":{"prompt_tokens":1e30}}',
        b'{"data":[{"index":0,"embedding":[1.0]}],"usage":"x"}',
        b'{"error":{"message":"secret"}}',
    ],
)
def test_answer_that_is_none_is_a_failure_without_its_text(answer: bytes) -> None:
    with pytest.raises(ProviderError) as caught:
        read_embeddings(CALL, body_of(input="a"), answer)

    assert caught.value.failure in (Failure.INVALID_RESPONSE, Failure.UNAVAILABLE)
    assert "secret" not in caught.value.message


def test_more_than_can_be_carried_is_the_clients_fault() -> None:
    with pytest.raises(ProviderError) as caught:
        answer_of(CALL, [b"1" * ANSWER_BYTES_MAX], b"")

    assert (Failure.REJECTED, "input") == (caught.value.failure, caught.value.param)


FLOATS = st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1)


@given(FLOATS)
def test_both_spellings_hold_the_same_bytes(numbers: list[float]) -> None:
    vector = struct.pack(f"<{len(numbers)}f", *numbers)

    for is_base64 in (False, True):
        spelled = encoded(vector, is_base64=is_base64)
        assert vector == decoded(msgspec.json.encode(spelled))


@given(FLOATS, st.integers(1, 20))
def test_shortened_vector_has_length_one_or_is_zero(numbers: list[float], count: int) -> None:
    vector = struct.pack(f"<{len(numbers)}f", *numbers)
    if count > len(numbers):
        with pytest.raises(ProviderError):
            shortened(vector, count)
        return

    found = struct.unpack(f"<{count}f", shortened(vector, count))

    norm = math.sqrt(sum(number * number for number in found))
    assert norm == 0 or math.isclose(1.0, norm, rel_tol=1e-4)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_has_not_are_a_failure(number: float) -> None:
    for is_base64 in (False, True):
        with pytest.raises(ProviderError):
            encoded(struct.pack("<3f", 1.0, number, 2.0), is_base64=is_base64)
