"""The contract of Triton's vLLM backend: what is sent, and what is read."""

from typing import Any

import msgspec
import pytest

from services.router.providers.port import Failure, ProviderError
from services.router.providers.triton.contract import Part
from services.router.providers.triton.vllm import (
    REQUIRED_INPUTS,
    VllmContract,
    VllmReader,
    sampling_parameters,
)
from services.router.providers.triton.wire import Signature
from tests.unit.router.triton_models import VLLM, a_body, a_call, values, without


def asked(signature: Signature = VLLM, **fields: Any) -> dict[str, Any]:
    return values(VllmContract(signature).ask(a_call(), a_body(**fields), "hé"))


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
        ("best_of", 2),
        ("tools", [{"type": "function"}]),
        ("tool_choice", "required"),
        ("logit_bias", {"1": 5}),
        ("structured_outputs", {"regex": "a+"}),
        ("mm_processor_kwargs", {"num_crops": 4}),
        ("modalities", ["text", "audio"]),
    ],
)
def test_parameter_that_changes_the_answer_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ProviderError) as caught:
        asked(**{name: value})

    assert caught.value.failure is Failure.UNSUPPORTED
    assert name == caught.value.param


def test_parameter_that_asks_for_nothing_is_fine() -> None:
    found = asked(
        n=1,
        tools=[],
        tool_choice="auto",
        logprobs=False,
        top_logprobs=None,
        logit_bias={},
        response_format={"type": "text"},
        modalities=["text"],
    )

    assert '{"max_tokens":9}' == found["sampling_parameters"]


def test_only_inputs_that_the_model_has_are_sent() -> None:
    whole, bare = asked(), asked(without(VLLM, "exclude_input_in_output", "image"))

    assert {"text_input", "sampling_parameters", "stream"} < set(whole)
    assert "hé" == whole["text_input"]
    assert whole["exclude_input_in_output"] is True
    assert REQUIRED_INPUTS == set(bare)


def test_images_are_elements_of_one_input() -> None:
    contract = VllmContract(VLLM)
    contract.check_takes_images()

    found = contract.images(("aGk=", "eW8="))

    assert ("image", (2,), ("aGk=", "eW8=")) == (found.name, found.shape, found.values)


def test_model_without_an_image_input_is_not_given_images() -> None:
    with pytest.raises(ProviderError) as caught:
        VllmContract(without(VLLM, "image")).check_takes_images()

    assert (Failure.UNSUPPORTED, "messages") == (caught.value.failure, caught.value.param)


@pytest.mark.parametrize("missing", sorted(REQUIRED_INPUTS))
def test_model_without_a_needed_input_is_not_asked(missing: str) -> None:
    with pytest.raises(ProviderError) as caught:
        VllmContract(without(VLLM, missing))

    assert caught.value.failure is Failure.INVALID_RESPONSE
    assert f"`{missing}`" in caught.value.message


def test_response_has_what_is_new_and_the_end() -> None:
    reader = VllmReader()
    counts = {"num_input_tokens": 12, "num_output_tokens": 2}

    goes_on = reader.read({"text_output": " sea", "finish_reason": "None", **counts})
    ends = reader.read({"text_output": "", "finish_reason": "length", **counts})

    assert [Part(text=" sea", num_input_tokens=12, num_output_tokens=2)] == list(goes_on)
    assert "length" == ends[0].finish_reason
    assert () == reader.end()


@pytest.mark.parametrize(
    "outputs",
    [
        {},
        {"text_output": 1},
        {"text_output": ["a", "b"]},
        {"text_output": "a", "num_output_tokens": -1},
        {"text_output": "a", "num_input_tokens": 1.5},
        {"text_output": "a", "finish_reason": 3},
        {"text_output": "a", "finish_reason": ["stop"]},
    ],
)
def test_response_of_another_form_is_an_invalid_response(outputs: dict[str, Any]) -> None:
    with pytest.raises(ProviderError) as caught:
        VllmReader().read(outputs)

    assert Failure.INVALID_RESPONSE is caught.value.failure


# Several choices, and log probabilities.


def test_choices_and_log_probabilities_are_asked_for() -> None:
    found = asked(n=3, logprobs=True, top_logprobs=5)
    bare = asked(n=1.0, logprobs=True)

    sampling = msgspec.json.decode(found["sampling_parameters"])
    assert {"max_tokens": 9, "n": 3, "logprobs": 5} == sampling
    assert found["return_logprobs"] is True
    assert {"max_tokens": 9, "logprobs": 0} == msgspec.json.decode(bare["sampling_parameters"])
    assert "return_logprobs" not in asked()


def test_log_probabilities_are_refused_where_they_cannot_be_told() -> None:
    body = a_body(logprobs=True)

    for signature, operation in ((without(VLLM, "return_logprobs"), 0), (VLLM, 1)):
        with pytest.raises(ProviderError) as caught:
            VllmContract(signature).ask(a_call(operation=operation), body, "p")
        assert (Failure.UNSUPPORTED, "logprobs") == (caught.value.failure, caught.value.param)


def test_every_choice_has_an_element_of_each_output() -> None:
    reader = VllmContract(VLLM).reader(a_call(), a_body(n=2))

    parts = reader.read(
        {
            "text_output": ["a", "b"],
            "finish_reason": ["None", "stop"],
            "num_input_tokens": 4,
            "num_output_tokens": [1, 2],
        }
    )

    assert 2 == reader.choice_count
    assert [
        Part(text="a", num_input_tokens=4, num_output_tokens=1, index=0),
        Part(text="b", finish_reason="stop", num_input_tokens=4, num_output_tokens=2, index=1),
    ] == list(parts)


@pytest.mark.parametrize("texts", ["a", ["a"], ["a", "b", "c"]])
def test_response_that_does_not_have_every_choice_is_an_invalid_response(texts: Any) -> None:
    with pytest.raises(ProviderError) as caught:
        VllmReader(2).read({"text_output": texts})

    assert Failure.INVALID_RESPONSE is caught.value.failure


def test_log_probabilities_that_were_asked_for_and_do_not_come_are_an_invalid_response() -> None:
    reader = VllmContract(VLLM).reader(a_call(), a_body(logprobs=True))
    told = {"text_output": "a", "logprobs": "null"}

    assert () == reader.read(told)[0].logprobs
    with pytest.raises(ProviderError):
        reader.read({"text_output": "a"})


def test_fields_that_change_nothing_here_are_named() -> None:
    body = a_body(temperature=0.5, user="u", metadata={}, store=False)

    assert ["metadata", "store", "user"] == VllmContract(VLLM).ignored(a_call(), body)
