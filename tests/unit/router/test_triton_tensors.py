"""The vLLM tensors of Triton: what is sent, what is read, and what its error texts mean."""

import struct
from typing import Any

import msgspec
import pytest

from services.router.providers.port import Body, Failure, ProviderError
from services.router.providers.triton_tensors import (
    REQUIRED_INPUTS,
    Part,
    ask,
    check_inputs,
    check_takes_images,
    error_of,
    ignored_fields,
    json_inputs,
    raw_inputs,
    read_event,
    read_part,
    sampling_parameters,
)

ALL_INPUTS = REQUIRED_INPUTS | {"exclude_input_in_output", "image", "return_logprobs"}


def a_body(**fields: Any) -> Body:
    return msgspec.json.decode(msgspec.json.encode(fields), type=dict[str, msgspec.Raw])


def element(text: str) -> bytes:
    return struct.pack("<I", len(text.encode())) + text.encode()


def test_max_tokens_is_always_said() -> None:
    sampling = sampling_parameters(a_body(model="m"), max_tokens=7)

    assert sampling == '{"max_tokens":7}'


def test_only_known_sampling_parameters_are_passed_on() -> None:
    body = a_body(
        temperature=0.5,
        top_k=4,
        stop=["a", "b"],
        seed=None,
        user="u",
        max_tokens=9,
        n=1,
        nonsense=1,
    )

    sampling = msgspec.json.decode(sampling_parameters(body, max_tokens=3))

    assert sampling == {"max_tokens": 3, "temperature": 0.5, "top_k": 4, "stop": ["a", "b"]}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2),
        ("tools", [{"type": "function"}]),
        ("tool_choice", "required"),
        ("logprobs", True),
        ("logit_bias", {"1": 5}),
        ("structured_outputs", {"regex": "a+"}),
        ("mm_processor_kwargs", {"num_crops": 4}),
        ("modalities", ["text", "audio"]),
    ],
)
def test_parameter_that_changes_the_answer_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ProviderError) as caught:
        sampling_parameters(a_body(**{name: value}), max_tokens=1)

    assert caught.value.failure is Failure.UNSUPPORTED
    assert name == caught.value.param


def test_parameter_that_asks_for_nothing_is_fine() -> None:
    body = a_body(
        n=1,
        tools=[],
        tool_choice="auto",
        logprobs=False,
        top_logprobs=None,
        logit_bias={},
        response_format={"type": "text"},
        modalities=["text"],
    )

    sampling = sampling_parameters(body, max_tokens=1)

    assert sampling == '{"max_tokens":1}'


def test_tensors_are_little_endian_elements_of_the_inputs_that_exist() -> None:
    request = ask("hé", '{"max_tokens":1}', REQUIRED_INPUTS)

    tensors = raw_inputs(request)

    assert tensors == [
        ("text_input", "BYTES", b"\x03\x00\x00\x00h\xc3\xa9"),
        ("sampling_parameters", "BYTES", element('{"max_tokens":1}')),
        ("stream", "BOOL", b"\x01"),
        ("return_finish_reason", "BOOL", b"\x01"),
        ("return_num_input_tokens", "BOOL", b"\x01"),
        ("return_num_output_tokens", "BOOL", b"\x01"),
    ]


def test_http_body_says_the_same_as_the_tensors() -> None:
    request = ask("hé", '{"max_tokens":1}', ALL_INPUTS)

    body = msgspec.json.decode(json_inputs(request))

    assert set(body) == {name for name, _, _ in raw_inputs(request)}
    assert body["text_input"] == "hé"
    assert body["sampling_parameters"] == '{"max_tokens":1}'
    assert body["exclude_input_in_output"] is True


def test_images_are_elements_of_one_tensor_and_a_list_in_the_body() -> None:
    request = ask("x", "{}", ALL_INPUTS)
    request.images = ("aGk=", "eW8=")

    tensors = {name: (datatype, content) for name, datatype, content in raw_inputs(request)}
    body = msgspec.json.decode(json_inputs(request))

    assert ("BYTES", element("aGk=") + element("eW8=")) == tensors["image"]
    assert ["aGk=", "eW8="] == body["image"]


def test_model_without_an_image_input_is_not_given_images() -> None:
    check_takes_images(ALL_INPUTS)

    with pytest.raises(ProviderError) as caught:
        check_takes_images(REQUIRED_INPUTS)

    assert (Failure.UNSUPPORTED, "messages") == (caught.value.failure, caught.value.param)


@pytest.mark.parametrize("missing", sorted(REQUIRED_INPUTS))
def test_model_without_a_needed_input_is_not_asked(missing: str) -> None:
    with pytest.raises(ProviderError) as caught:
        check_inputs(ALL_INPUTS - {missing})

    assert caught.value.failure is Failure.INVALID_RESPONSE
    assert f"`{missing}`" in caught.value.message


@pytest.mark.parametrize("count_type", ["UINT32", "INT32"])
def test_response_is_read_whatever_the_order_and_extra_tensors(count_type: str) -> None:
    layout = [
        ("num_output_tokens", count_type),
        ("text_output", "BYTES"),
        ("cumulative_logprob", "FP32"),
        ("finish_reason", "BYTES"),
        ("num_input_tokens", count_type),
    ]
    contents = [
        struct.pack("<I", 2),
        element(" sea"),
        struct.pack("<f", -1.5),
        element("None"),
        struct.pack("<I", 12),
    ]

    part = read_part(layout, contents)

    assert part == Part(text=" sea", finish_reason="None", num_input_tokens=12, num_output_tokens=2)


def test_empty_final_response_is_nothing() -> None:
    part = read_part([], [])

    assert part is None


def test_boolean_scalar_counts_as_a_number() -> None:
    part = read_part([("num_output_tokens", "BOOL")], [b"\x01"])

    assert part == Part(num_output_tokens=1)


def test_text_that_is_not_unicode_is_shown_with_replacements() -> None:
    part = read_part([("text_output", "BYTES")], [b"\x02\x00\x00\x00a\xff"])

    assert part == Part(text="a\ufffd")


@pytest.mark.parametrize(
    ("layout", "contents"),
    [
        ([("text_output", "BYTES")], [b""]),
        ([("text_output", "BYTES")], [element("a") + element("b")]),
        ([("text_output", "BYTES")], [b"\x09\x00\x00\x00a"]),
        ([("text_output", "FP32")], [element("a")]),
        ([("num_output_tokens", "UINT32")], [b"\x01"]),
        ([("num_output_tokens", "INT32")], [b"\xff\xff\xff\xff"]),
        ([("num_input_tokens", "FP32")], [b"\x00\x00\x00\x00"]),
        ([("text_output", "BYTES")], [element("a"), element("b")]),
    ],
)
def test_tensor_of_another_form_is_an_invalid_response(
    layout: list[tuple[str, str]], contents: list[bytes]
) -> None:
    with pytest.raises(ProviderError) as caught:
        read_part(layout, contents)

    assert caught.value.failure is Failure.INVALID_RESPONSE


def test_http_event_is_the_same_part() -> None:
    part = read_event(
        b' {"finish_reason":"stop","model_name":"m","num_input_tokens":8,'
        b'"num_output_tokens":1,"text_output":" A\\u00e9"}'
    )

    assert part == Part(text=" Aé", finish_reason="stop", num_input_tokens=8, num_output_tokens=1)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"text_output":["a","b"]}', b'{"text_output":"\xff"}']
)
def test_http_event_of_another_form_is_an_invalid_response(data: bytes) -> None:
    with pytest.raises(ProviderError) as caught:
        read_event(data)

    assert caught.value.failure is Failure.INVALID_RESPONSE


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("Request for unknown model: 'x' is not found", Failure.NOT_FOUND),
        ("Request for unknown model: 'x' version 1 is not at ready state", Failure.UNAVAILABLE),
        ("Model is unavailable due to unhealthy vLLM engine", Failure.UNAVAILABLE),
        ("Model is unloading", Failure.UNAVAILABLE),
        ("Error generating stream: EngineDeadError", Failure.UNAVAILABLE),
        (
            "Error generating stream: the prompt has 15001 tokens, the limit is 4095",
            Failure.CONTEXT_LENGTH,
        ),
        (
            "Error generating stream: The decoder prompt (length 9) is longer than the maximum "
            "model length of 8.",
            Failure.CONTEXT_LENGTH,
        ),
        ("Request was cancelled", Failure.INCOMPLETE),
        ("unexpected inference input 'x' for model 'y'", Failure.INVALID_RESPONSE),
        ("Error generating stream: not a valid value: top_p", Failure.REJECTED),
        ("Failed to transform json schema into a grammar: secret", Failure.REJECTED),
        ("Invalid grammar specification.", Failure.REJECTED),
        (
            "Error generating stream: 'NoneType' object has no attribute 'lora_name'",
            Failure.REJECTED,
        ),
        ("Traceback (most recent call last): secret", Failure.INVALID_RESPONSE),
        ("", Failure.INVALID_RESPONSE),
    ],
)
def test_error_text_is_classified_and_never_repeated(text: str, failure: Failure) -> None:
    error = error_of(text)

    assert error.failure is failure
    assert "secret" not in error.message
    assert text == "" or text not in error.message


def test_refused_parameter_is_named_when_the_text_names_it() -> None:
    error = error_of("Error generating stream: top_p must be in (0, 1], got 7.0")

    assert error.message == "Parameter `top_p` was refused by the model."


def test_fields_that_change_nothing_here_are_named() -> None:
    body = a_body(temperature=0.5, user="u", metadata={}, store=False)

    assert ["metadata", "store", "user"] == ignored_fields(body)
