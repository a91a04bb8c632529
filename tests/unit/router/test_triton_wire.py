"""Tensors as bytes and as JSON: what goes out, and what comes in, over both transports."""

import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2
from tritonclient.utils import deserialize_bytes_tensor

from services.router.providers.port import Failure, ProviderError
from services.router.providers.triton.wire import (
    Ask,
    Spec,
    Value,
    content,
    count_of,
    elements,
    json_body,
    read_event,
    read_raw,
    tensor,
    text_of,
)


def element(text: str) -> bytes:
    return struct.pack("<I", len(text.encode())) + text.encode()


def failure(raised: pytest.ExceptionInfo[ProviderError]) -> Failure:
    return raised.value.failure


@pytest.mark.parametrize(
    ("spec", "given_values", "shape", "expected"),
    [
        (Spec("BYTES"), ["hé"], (1,), b"\x03\x00\x00\x00h\xc3\xa9"),
        (Spec("BYTES", 2), ["a", "bc"], (1, 2), element("a") + element("bc")),
        (Spec("BOOL", 2), [True], (1, 1), b"\x01"),
        (Spec("INT32", 2), [7], (1, 1), b"\x07\x00\x00\x00"),
        (Spec("INT32"), [7.0], (1,), b"\x07\x00\x00\x00"),
        (Spec("UINT64"), [2**64 - 1], (1,), b"\xff" * 8),
        (Spec("FP32", 0), [1], (), struct.pack("<f", 1.0)),
    ],
)
def test_input_has_the_type_and_rank_that_the_model_wants(
    spec: Spec, given_values: list[Value], shape: tuple[int, ...], expected: bytes
) -> None:
    found = tensor("x", spec, given_values)

    assert (shape, expected) == (found.shape, content(found))


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        (Spec("INT32"), 0.5),
        (Spec("INT32"), 2**31),
        (Spec("UINT64"), -1),
        (Spec("INT32"), True),
        (Spec("BOOL"), 1),
        (Spec("BYTES"), 1),
        (Spec("FP32"), "1"),
        (Spec("FP32"), 1e300),
        (Spec("FP16"), 1.0),
    ],
)
def test_value_that_an_input_cannot_say_is_refused(spec: Spec, value: Value) -> None:
    with pytest.raises(ValueError, match=r"no |range"):
        tensor("x", spec, [value])


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_texts_are_read_back_by_tritons_own_client(texts: list[str]) -> None:
    raw = content(tensor("x", Spec("BYTES"), texts))

    found = [bytes(each).decode() for each in deserialize_bytes_tensor(raw)]

    assert texts == found
    read = read_raw([("x", "BYTES")], [raw])
    assert read is not None
    assert texts == elements(read, "x", len(texts))


def test_inputs_are_a_message_of_tritons_protocol() -> None:
    given_tensor = tensor("stop_words", Spec("BYTES", 2), ["a", "b"])
    message = service_pb2.ModelInferRequest()

    message.inputs.add(
        name=given_tensor.name, datatype=given_tensor.datatype, shape=given_tensor.shape
    )

    assert [1, 2] == list(message.inputs[0].shape)


def test_body_has_a_value_for_one_element_and_a_list_for_more() -> None:
    request: Ask = (
        tensor("text", Spec("BYTES", 2), ["hé"]),
        tensor("stop", Spec("BYTES", 2), ["a", "b"]),
        tensor("flag", Spec("BOOL"), [True]),
    )

    body = msgspec.json.decode(json_body(request))

    assert {"text": "hé", "stop": ["a", "b"], "flag": True} == body


def test_response_is_read_whatever_its_order_and_its_types() -> None:
    layout = [
        ("count", "UINT32"),
        ("text", "BYTES"),
        ("many", "INT32"),
        ("half", "FP16"),
        ("flag", "BOOL"),
    ]
    contents = [
        struct.pack("<I", 2),
        element(" sea"),
        struct.pack("<ii", 3, -4),
        b"\x00\x00",
        b"\x01",
    ]

    found = read_raw(layout, contents)

    assert {"count": 2, "text": " sea", "many": [3, -4], "flag": True} == found


def test_empty_final_response_is_nothing() -> None:
    assert read_raw([], []) is None


def test_text_that_is_not_unicode_is_shown_with_replacements() -> None:
    found = read_raw([("text", "BYTES")], [b"\x02\x00\x00\x00a\xff"])

    assert {"text": "a\ufffd"} == found


@pytest.mark.parametrize(
    ("layout", "contents"),
    [
        ([("text", "BYTES")], [b"\x09\x00\x00\x00a"]),
        ([("count", "UINT32")], [b"\x01"]),
        ([("text", "BYTES")], [element("a"), element("b")]),
    ],
)
def test_tensor_of_another_form_is_an_invalid_response(
    layout: list[tuple[str, str]], contents: list[bytes]
) -> None:
    with pytest.raises(ProviderError) as caught:
        read_raw(layout, contents)

    assert Failure.INVALID_RESPONSE is failure(caught)


def test_event_says_the_same_as_the_tensors() -> None:
    found = read_event(b' {"num_output_tokens":[1,2],"text_output":" A\\u00e9"}')

    assert {"num_output_tokens": [1, 2], "text_output": " Aé"} == found


@pytest.mark.parametrize("data", [b"", b" {", b"[]", b'"x"', b'{"text_output":"\xff"}'])
def test_event_that_is_none_is_an_invalid_response(data: bytes) -> None:
    with pytest.raises(ProviderError) as caught:
        read_event(data)

    assert Failure.INVALID_RESPONSE is failure(caught)


@pytest.mark.parametrize(
    ("outputs", "count"), [({"x": ["a", "b"]}, 1), ({"x": "a"}, 2), ({"x": []}, 1)]
)
def test_output_with_another_number_of_elements_is_an_invalid_response(
    outputs: dict[str, Any], count: int
) -> None:
    with pytest.raises(ProviderError) as caught:
        elements(outputs, "x", count)

    assert Failure.INVALID_RESPONSE is failure(caught)


def test_output_that_did_not_come_has_no_elements() -> None:
    assert elements({}, "x", 1) is None


def test_element_is_what_it_should_be() -> None:
    assert ("a", 3, 1) == (text_of("a"), count_of(3), count_of(True))
    for wrong in (None, 1.5, -1, "1"):
        with pytest.raises(ProviderError):
            count_of(wrong)
    with pytest.raises(ProviderError):
        text_of(1)
