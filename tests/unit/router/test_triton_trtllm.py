"""The contracts of TensorRT-LLM behind Triton: what is sent, what is refused, what is read."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.providers.port import Failure, ProviderError
from services.router.providers.triton.contract import Contract, LoraSource, Part
from services.router.providers.triton.contracts import (
    ContractName,
    ContractWish,
    contract_of,
    needs_settings,
)
from services.router.providers.triton.trtllm import TrtLlmApiContract, TrtLlmPipelineContract
from services.router.providers.triton.vllm import VllmContract
from services.router.providers.triton.wire import ModelSettings, Outputs, Signature
from tests.unit.router.triton_models import BLS, LLMAPI, VLLM, a_body, a_call, values, without

AUTO = ContractWish()


def pipeline(signature: Signature = BLS, *, is_whole: bool | None = None) -> Contract:
    return TrtLlmPipelineContract(signature, is_whole=is_whole)


def asked(contract: Contract, **fields: Any) -> dict[str, Any]:
    body = a_body(**fields)
    return values(contract.ask(a_call(body=body), body, "p"))


def refusal(contract: Contract, **fields: Any) -> tuple[Failure, str]:
    with pytest.raises(ProviderError) as caught:
        asked(contract, **fields)
    return caught.value.failure, caught.value.param


def read(contract: Contract, *responses: Outputs, **fields: Any) -> list[Part]:
    reader = contract.reader(a_call(max_tokens=fields.pop("max_tokens", 9)), a_body(**fields))
    found = [part for outputs in responses for part in reader.read(outputs)]
    return [*found, *reader.end()]


def piece(text: str, count: int = 1) -> Outputs:
    return {"text_output": text, "num_input_tokens": 4, "num_output_tokens": count}


def said(parts: list[Part]) -> tuple[str, str, int]:
    reasons = [part.finish_reason for part in parts if part.finish_reason]
    counts = sum(part.num_output_tokens or 0 for part in parts)
    return "".join(part.text for part in parts), ",".join(reasons), counts


# Which contract it is.


@pytest.mark.parametrize(
    ("signature", "kind"),
    [(VLLM, VllmContract), (BLS, TrtLlmPipelineContract), (LLMAPI, TrtLlmApiContract)],
)
def test_contract_is_found_by_the_names_of_the_inputs(signature: Signature, kind: type) -> None:
    assert isinstance(contract_of(signature, AUTO), kind)


def test_contract_that_was_declared_is_taken_and_its_inputs_are_needed() -> None:
    with pytest.raises(ProviderError) as caught:
        contract_of(BLS, ContractWish(ContractName.VLLM))

    assert Failure.INVALID_RESPONSE is caught.value.failure


def test_vllm_never_repeats_its_text() -> None:
    with pytest.raises(ProviderError) as caught:
        contract_of(VLLM, ContractWish(is_whole=True))

    assert Failure.INVALID_RESPONSE is caught.value.failure


def test_model_with_other_inputs_has_no_contract() -> None:
    with pytest.raises(ProviderError) as caught:
        contract_of(without(VLLM, "sampling_parameters"), AUTO)

    assert Failure.INVALID_RESPONSE is caught.value.failure


def test_settings_are_wanted_where_they_say_how_the_text_comes() -> None:
    assert [True, True, False] == [needs_settings(each) for each in (BLS, LLMAPI, VLLM)]


@pytest.mark.parametrize(
    ("kind", "signature", "flag"),
    [(TrtLlmPipelineContract, BLS, "stream"), (TrtLlmApiContract, LLMAPI, "streaming")],
)
def test_model_with_one_response_is_not_asked_for_a_stream(
    kind: type[TrtLlmPipelineContract | TrtLlmApiContract], signature: Signature, flag: str
) -> None:
    single = signature._replace(settings=ModelSettings(is_decoupled=False))

    assert asked(kind(signature))[flag] is True
    assert flag not in asked(kind(single))


# The pipeline.


def test_pipeline_is_asked_with_a_batch_dimension_and_counts() -> None:
    request = pipeline().ask(a_call(max_tokens=7), a_body(stop=["a", "b"], seed=5), "p")

    shapes = {each.name: (each.datatype, each.shape) for each in request}
    assert ("INT32", (1, 1)) == shapes["max_tokens"]
    assert ("BYTES", (1, 2)) == shapes["stop_words"]
    assert ("UINT64", (1, 1)) == shapes["seed"]
    found = values(request)
    assert found["exclude_input_in_output"] is found["return_num_output_tokens"] is True
    assert ("p", 7, True) == (found["text_input"], found["max_tokens"], found["stream"])


@pytest.mark.parametrize(
    ("fields", "sampling"),
    [
        ({}, {"top_p": 1.0}),
        ({"temperature": 0.5}, {"temperature": 0.5, "top_p": 1.0}),
        ({"temperature": 0}, {"top_k": 1}),
        ({"top_k": 4}, {"top_k": 4}),
        ({"top_k": -1}, {"top_p": 1.0}),
        ({"top_k": 0}, {"top_p": 1.0}),
        ({"top_p": 0.5, "temperature": 2}, {"temperature": 2.0, "top_p": 0.5}),
        ({"min_tokens": 3, "presence_penalty": 1}, {"min_tokens": 3, "presence_penalty": 1}),
    ],
)
def test_request_that_leaves_sampling_open_is_sampled(
    fields: dict[str, Any], sampling: dict[str, Any]
) -> None:
    names = ("temperature", "top_p", "top_k", "min_tokens", "presence_penalty")

    found = asked(pipeline(), **fields)

    expected = sampling if "min_tokens" not in sampling else {**sampling, "top_p": 1.0}
    assert expected == {name: found[name] for name in names if name in found}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"min_p": 0.5}, "min_p"),
        ({"logprobs": True}, "logprobs"),
        ({"stop_token_ids": [3]}, "stop_token_ids"),
        ({"ignore_eos": True}, "ignore_eos"),
        ({"tools": [{}]}, "tools"),
        ({"skip_special_tokens": False}, "skip_special_tokens"),
    ],
)
def test_what_the_pipeline_cannot_be_told_is_refused_by_name(
    fields: dict[str, Any], param: str
) -> None:
    assert (Failure.UNSUPPORTED, param) == refusal(pipeline(), **fields)


@pytest.mark.parametrize(
    ("missing", "fields"),
    [
        ("temperature", {"temperature": 0.5}),
        ("top_p", {"top_p": 0.5}),
        ("bad_words", {"bad_words": ["x"]}),
        ("frequency_penalty", {"frequency_penalty": 0.5}),
    ],
)
def test_parameter_whose_input_is_missing_is_refused_unless_it_asks_for_nothing(
    missing: str, fields: dict[str, Any]
) -> None:
    contract = pipeline(without(BLS, missing))

    assert (Failure.UNSUPPORTED, missing) == refusal(contract, **fields)
    assert missing not in asked(contract, frequency_penalty=0, top_p=1, bad_words=[])


def test_value_that_an_input_cannot_say_is_the_clients_fault() -> None:
    assert (Failure.REJECTED, "seed") == refusal(pipeline(), seed="x")
    assert (Failure.REJECTED, "top_k") == refusal(pipeline(), top_k=0.5)
    assert (Failure.REJECTED, "stop") == refusal(pipeline(), stop=[1])


def test_any_seed_is_one_that_the_input_can_say() -> None:
    found = [asked(pipeline(), seed=seed)["seed"] for seed in (7, -1, 2**64 + 7)]

    assert [7, 2**64 - 1, 7] == found


def test_seed_without_an_input_is_told_and_nothing_else_is_lost() -> None:
    body = a_body(seed=5, user="u", temperature=0.5)

    assert ["user"] == pipeline().ignored(a_call(), body)
    assert ["seed", "user"] == pipeline(without(BLS, "seed")).ignored(a_call(), body)
    assert "seed" not in asked(pipeline(without(BLS, "seed")), seed=5)


def test_pipeline_that_counts_nothing_is_not_asked() -> None:
    with pytest.raises(ProviderError) as caught:
        pipeline(without(BLS, "return_num_output_tokens"))

    assert Failure.INVALID_RESPONSE is caught.value.failure


@pytest.mark.parametrize(
    ("max_tokens", "reason"), [(3, "length"), (4, "stop")], ids=["reached", "not reached"]
)
def test_pipeline_ends_for_length_when_the_bound_is_reached(max_tokens: int, reason: str) -> None:
    parts = read(pipeline(), piece("a"), piece(" b", 2), max_tokens=max_tokens)

    assert ("a b", reason, 3) == said(parts)


@given(st.lists(st.integers(0, 12), max_size=4))
def test_stop_word_that_was_left_in_the_text_is_cut_however_it_comes(ends: list[int]) -> None:
    text = "one END two"
    marks = sorted({0, len(text), *(end for end in ends if end < len(text))})
    responses = [piece(text[a:b]) for a, b in itertools.pairwise(marks)]

    parts = read(pipeline(), *responses, stop="END")

    assert ("one ", "stop") == said(parts)[:2]


def test_stop_word_counts_as_stop_although_the_bound_is_reached() -> None:
    parts = read(pipeline(), piece("a"), piece("END"), max_tokens=2, stop=["END"])
    kept = read(pipeline(), piece("a END"), stop="END", include_stop_str_in_output=True)

    assert ("a", "stop", 2) == said(parts)
    assert ("a END", "stop", 1) == said(kept)


def test_pipeline_that_repeats_its_text_is_found_out_by_its_settings() -> None:
    repeating = BLS._replace(settings=ModelSettings({"accumulate_tokens": "True"}))
    responses = [piece("a"), piece("a b"), piece("a b\ufffd")]

    found, declared = (
        said(read(contract, *responses))
        for contract in (pipeline(repeating), pipeline(is_whole=True))
    )

    assert ("a b\ufffd", "stop", 3) == found == declared


def test_call_that_ends_without_any_response_is_no_answer() -> None:
    assert [] == read(pipeline())
    assert [] == read(pipeline(), {"model_name": "x"})


# The LLM API.


def test_api_has_inputs_of_its_own() -> None:
    found = asked(TrtLlmApiContract(LLMAPI), temperature=0.5, stop="x", seed=3)

    assert {
        "text_input": "p",
        "sampling_param_max_tokens": 9,
        "sampling_param_temperature": 0.5,
        "sampling_param_top_p": 1.0,
        "sampling_param_seed": 3,
        "sampling_param_stop": "x",
        "streaming": True,
        "sampling_param_exclude_input_from_output": True,
        "return_finish_reason": True,
    } == found


@pytest.mark.parametrize("param", ["repetition_penalty", "min_tokens", "bad_words", "top_logprobs"])
def test_what_the_api_cannot_be_told_is_refused_by_name(param: str) -> None:
    assert (Failure.UNSUPPORTED, param) == refusal(TrtLlmApiContract(LLMAPI), **{param: 3})


@pytest.mark.parametrize(
    ("fields", "guide"),
    [
        ({"guided_regex": "a+"}, ("regex", "a+")),
        ({"response_format": {"type": "json_object"}}, ("json", None)),
        ({"response_format": {"type": "text"}}, (None, None)),
    ],
)
def test_pipeline_is_told_a_constraint(
    fields: dict[str, Any], guide: tuple[str | None, str | None]
) -> None:
    found = asked(pipeline(), **fields)

    names = ("guided_decoding_guide_type", "guided_decoding_guide")
    assert guide == tuple(found.get(name) for name in names)


def test_constraint_without_an_input_is_refused() -> None:
    deaf = without(BLS, "guided_decoding_guide", "guided_decoding_guide_type")

    for each in (pipeline(deaf), TrtLlmApiContract(LLMAPI)):
        assert (Failure.UNSUPPORTED, "guided_regex") == refusal(each, guided_regex="a+")
        assert asked(each, response_format={"type": "text"})


def test_pattern_of_white_space_is_told_to_be_ignored() -> None:
    body = a_body(guided_json={}, guided_whitespace_pattern=" ?")

    ignored = pipeline().ignored(a_call(body=body), body)

    assert ["guided_whitespace_pattern"] == ignored


# Adapters.

ADAPTERS = {"here": LoraSource(7, "/l/here"), "numbered": LoraSource(8), "nowhere": LoraSource()}


def adapted(contract: Contract, adapter: str) -> dict[str, Any]:
    found = values(contract.ask(a_call(adapter=adapter), a_body(), "p"))
    return {name: value for name, value in found.items() if name.startswith("lora")}


def test_adapter_is_named_in_the_words_of_each_contract() -> None:
    older = TrtLlmPipelineContract(BLS, adapters=ADAPTERS)
    newer = TrtLlmApiContract(LLMAPI, adapters=ADAPTERS)

    assert {"lora_task_id": 7} == adapted(older, "here")
    assert {"lora_task_id": 8} == adapted(older, "numbered")
    told = {"lora_id": 7, "lora_name": "here", "lora_path": "/l/here"}
    assert told == adapted(newer, "here")


@pytest.mark.parametrize(
    ("contract", "adapter"),
    [
        (TrtLlmPipelineContract(BLS), "here"),
        (TrtLlmPipelineContract(BLS, adapters=ADAPTERS), "nowhere"),
        (TrtLlmPipelineContract(without(BLS, "lora_task_id"), adapters=ADAPTERS), "here"),
        (TrtLlmApiContract(LLMAPI, adapters=ADAPTERS), "numbered"),
        (TrtLlmApiContract(without(LLMAPI, "lora_path"), adapters=ADAPTERS), "here"),
    ],
)
def test_adapter_that_cannot_be_named_is_refused(contract: Contract, adapter: str) -> None:
    with pytest.raises(ProviderError) as caught:
        adapted(contract, adapter)

    assert (Failure.UNSUPPORTED, "model") == (caught.value.failure, caught.value.param)


def test_api_repeats_its_text_says_why_it_ended_and_counts_nothing() -> None:
    contract = TrtLlmApiContract(LLMAPI)
    responses = [
        {"text_output": "a", "finish_reason": "None"},
        {"text_output": "a b", "finish_reason": "None"},
        {"text_output": "a b", "finish_reason": "length"},
    ]

    parts = read(contract, *responses)

    assert ("a b", "length", 0) == said(parts)
    assert not contract.is_counted
    assert [None] * 3 == [part.num_output_tokens for part in parts]


def test_api_that_was_cut_off_has_not_ended_well() -> None:
    parts = read(
        TrtLlmApiContract(LLMAPI, is_whole=False),
        {"text_output": "a", "finish_reason": "None"},
        {"text_output": "a", "finish_reason": "timeout"},
    )

    assert ("aa", "abort", 0) == said(parts)
