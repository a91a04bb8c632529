"""Chat completions as requests of the Messages API; Anthropic's own types check every one."""

from typing import Any

import pytest

from services.router.providers.anthropic.codec import AnthropicCodec
from services.router.providers.port import Failure, ProviderError
from tests.fixtures.anthropic_calls import LOOK, PIXEL, USER, attempt, encoded
from tests.fixtures.anthropic_types import checked

ANY_OF = {"anyOf": [{"type": "object"}]}


def sent(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return checked(encoded(*messages, **fields).body)


def refusal(*messages: dict[str, Any], **fields: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        encoded(*messages, **fields)
    return caught.value


def called(call_id: str, name: str = "look", arguments: str = "{}") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


def test_a_plain_request_says_model_bound_and_turns() -> None:
    outgoing = encoded(USER, max_tokens=77)

    assert (outgoing.path, outgoing.ignored) == ("/v1/messages", ())
    assert checked(outgoing.body) == {
        "model": "upstream-model",
        "stream": True,
        "max_tokens": 77,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
    }


def test_instructions_stand_apart_and_turns_alternate() -> None:
    found = sent(
        {"role": "system", "content": "Be kind."},
        USER,
        {"role": "user", "content": "Are you there?"},
        {"role": "assistant", "content": "Yes"},
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Good"},
    )

    assert found["system"] == [
        {"type": "text", "text": "Be kind."},
        {"type": "text", "text": "Be brief."},
    ]
    assert [turn["role"] for turn in found["messages"]] == ["user", "assistant", "user"]
    assert len(found["messages"][0]["content"]) == 2


def test_results_stand_first_in_one_turn_with_their_images() -> None:
    image = {"type": "image_url", "image_url": {"url": PIXEL}}
    found = sent(
        USER,
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [called("a", arguments='{"at":"sea"}'), called("b")],
        },
        {"role": "user", "content": "And?"},
        {"role": "tool", "tool_call_id": "b", "content": ""},
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "Blue"}, image]},
        tools=[LOOK],
    )

    use, other = found["messages"][1]["content"][1:]
    assert (use["id"], use["name"], use["input"]) == ("a", "look", {"at": "sea"})
    assert other["input"] == {}
    one, two, text = found["messages"][2]["content"]
    assert one == {"type": "tool_result", "tool_use_id": "b"}
    assert two["tool_use_id"] == "a"
    assert two["content"][0] == {"type": "text", "text": "Blue"}
    assert two["content"][1]["source"]["data"] == "iVBORw0KGgo="
    assert text == {"type": "text", "text": "And?"}


def test_ids_of_other_makers_are_respelled_alike_in_call_and_result() -> None:
    found = sent(
        USER,
        {"role": "assistant", "content": None, "tool_calls": [called("functions.look:0")]},
        {"role": "tool", "tool_call_id": "functions.look:0", "content": "x"},
        tools=[LOOK],
    )

    use, result = found["messages"][1]["content"][0], found["messages"][2]["content"][0]
    assert use["id"] == result["tool_use_id"]
    assert use["id"].startswith("call_")


def test_media_goes_as_data_or_by_url_and_markers_stay() -> None:
    marker = {"type": "ephemeral", "ttl": "1h"}
    pdf = {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}
    content = [
        {"type": "text", "text": "See", "cache_control": {"type": "ephemeral"}},
        {"type": "image_url", "image_url": {"url": PIXEL}, "cache_control": marker},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "file", "file": pdf},
    ]
    found = sent(
        {"role": "system", "content": [{"type": "text", "text": "S", "cache_control": marker}]},
        {"role": "user", "content": content},
        tools=[{**LOOK, "cache_control": marker}],
    )

    text, image, remote, document = found["messages"][0]["content"]
    assert text["cache_control"] == {"type": "ephemeral"}
    assert image["source"] == {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    assert image["cache_control"] == found["system"][0]["cache_control"] == marker
    assert found["tools"][0]["cache_control"] == marker
    assert remote == {
        "type": "image",
        "source": {"type": "url", "url": "https://example.com/a.png"},
    }
    assert (document["title"], document["source"]["data"]) == ("a.pdf", "JVBERi0=")


def test_thoughts_go_back_with_their_signature_and_others_are_told() -> None:
    ours = {"type": "reasoning.text", "text": "Hm", "signature": "s"} | {
        "format": "anthropic-claude-v1"
    }
    sealed = {"type": "reasoning.encrypted", "data": "xyz", "format": "anthropic-claude-v1"}
    foreign = {"type": "reasoning.text", "text": "Mm", "signature": "g", "format": "google"}
    kept = encoded(
        USER,
        {"role": "assistant", "content": "Hi", "reasoning_details": [ours, sealed]},
        USER,
    )
    lost = encoded(
        USER,
        {"role": "assistant", "content": "Hi", "reasoning_details": [foreign]},
        USER,
        {"role": "assistant", "content": "Ho", "reasoning_content": "unsigned"},
        USER,
    )

    assert checked(kept.body)["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "Hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "text", "text": "Hi"},
    ]
    assert kept.ignored == ()
    assert [len(turn["content"]) for turn in checked(lost.body)["messages"]] == [1] * 5
    assert lost.ignored == ("reasoning_content",)


def test_sampling_is_said_where_it_differs_from_what_is_usual() -> None:
    usual = sent(temperature=1, top_p=1.0, top_k=-1, stop=None)
    chosen = sent(temperature=0.5, top_p=0.9, top_k=40.0, stop="END")

    assert not {"temperature", "top_p", "top_k", "stop_sequences"} & usual.keys()
    assert (chosen["temperature"], chosen["top_p"], chosen["top_k"]) == (0.5, 0.9, 40)
    assert chosen["stop_sequences"] == ["END"]


def test_sampling_that_a_model_does_not_take_is_refused_or_told() -> None:
    refusing, ignoring = {"sampling": "refused"}, {"sampling": "ignored"}
    told = encoded(temperature=0.5, top_p=1, top_k=4, stop="END", options=ignoring)

    found = checked(told.body)
    assert not {"temperature", "top_p", "top_k"} & found.keys()
    assert found["stop_sequences"] == ["END"]
    assert sorted(told.ignored) == ["temperature", "top_k"]
    assert refusal(temperature=0.5, options=refusing).param == "temperature"
    assert "temperature" not in sent(temperature=1.0, options=refusing)


@pytest.mark.parametrize(
    ("fields", "choice"),
    [
        ({}, None),
        ({"tool_choice": "auto"}, None),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": "none"}, {"type": "none"}),
        (
            {"tool_choice": {"type": "function", "function": {"name": "look"}}},
            {"type": "tool", "name": "look"},
        ),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"parallel_tool_calls": False, "tool_choice": "none"}, {"type": "none"}),
    ],
)
def test_how_tools_are_chosen_is_said(fields: dict[str, Any], choice: Any) -> None:
    found = sent(tools=[LOOK], **fields)

    assert found["tools"] == [
        {
            "name": "look",
            "description": "Looks at a place.",
            "input_schema": LOOK["function"]["parameters"],  # type: ignore[index]
        }
    ]
    assert found.get("tool_choice") == choice


def test_a_tool_without_parameters_takes_an_empty_object() -> None:
    bare = {"type": "function", "function": {"name": "now"}}
    loose = {"type": "function", "function": {"name": "then", "parameters": {"properties": {}}}}

    found = sent(tools=[bare, loose])

    assert [tool["input_schema"]["type"] for tool in found["tools"]] == ["object", "object"]


def test_a_strict_tool_is_held_to_its_schema_where_the_model_can_be() -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    tool = {
        "type": "function",
        "function": {"name": "now", "parameters": schema, "strict": True},
    }
    native = encoded(tools=[tool], options={"output_format": "native"})
    other = encoded(tools=[tool])

    assert checked(native.body)["tools"][0]["strict"] is True
    assert "strict" not in checked(other.body)["tools"][0]
    assert (native.ignored, other.ignored) == ((), ("tools.strict",))


def test_for_whom_and_how_urgent_is_said_and_the_rest_is_told() -> None:
    outgoing = encoded(
        user="u-1", safety_identifier="x", service_tier="default", seed=7, store=True, metadata=None
    )
    odd = encoded(user="u" * 300, service_tier="flex")

    found = checked(outgoing.body)
    assert (found["metadata"], found["service_tier"]) == ({"user_id": "u-1"}, "standard_only")
    assert sorted(outgoing.ignored) == ["safety_identifier", "seed", "store"]
    assert sorted(odd.ignored) == ["service_tier", "user"]


def test_what_has_no_place_in_turns_is_told() -> None:
    assert encoded({"role": "user", "content": "Hi", "name": "ann"}).ignored == ("messages.name",)


def test_what_nobody_knows_is_sent_on() -> None:
    assert sent(inference_geo="eu")["inference_geo"] == "eu"


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1, "logprobs": False, "frequency_penalty": 0, "presence_penalty": 0.0},
        {"logit_bias": {}, "repetition_penalty": 1.0, "functions": [], "modalities": ["text"]},
        {"min_p": 0, "skip_special_tokens": True, "function_call": "auto", "top_logprobs": None},
    ],
)
def test_what_asks_for_nothing_is_no_obstacle(fields: dict[str, Any]) -> None:
    outgoing = encoded(**fields)

    assert outgoing.ignored == ()
    assert checked(outgoing.body).keys() == {"model", "stream", "max_tokens", "messages"}


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("n", {"n": 2}),
        ("logprobs", {"logprobs": True}),
        ("presence_penalty", {"presence_penalty": 0.5}),
        ("skip_special_tokens", {"skip_special_tokens": False}),
        ("temperature", {"temperature": 1.5}),
        ("stop", {"stop": ["\n\n"]}),
        ("chat_template", {"chat_template": "x"}),
        ("tool_choice", {"tools": [LOOK], "tool_choice": {"type": "allowed_tools"}}),
        ("tool_choice", {"tools": [LOOK], "tool_choice": "perhaps"}),
        ("tools[0]", {"tools": [{"type": "custom", "custom": {}}]}),
        (
            "tools[0].function.parameters",
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": [1]}}]},
        ),
        ("tools[0].function.name", {"tools": [{"type": "function", "function": {"name": "a.b"}}]}),
        (
            "tools[0].function.parameters",
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": ANY_OF}}]},
        ),
        ("guided_regex", {"guided_regex": "a+"}),
        ("guided_grammar", {"guided_grammar": "root ::= 'a'"}),
    ],
)
def test_what_cannot_be_said_is_refused_by_its_name(param: str, fields: dict[str, Any]) -> None:
    found = refusal(**fields)

    assert (found.failure, found.param) == (Failure.UNSUPPORTED, param)


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "Alone"}],
        [USER, {"role": "assistant", "content": "Once upon"}],
        [{"role": "user", "content": " \n"}],
        [
            USER,
            {"role": "assistant", "content": None, "tool_calls": [called("a", arguments="[1]")]},
            {"role": "tool", "tool_call_id": "a", "content": "x"},
        ],
    ],
)
def test_a_conversation_that_has_no_place_is_refused(messages: list[dict[str, Any]]) -> None:
    found = refusal(*messages)

    assert (found.failure, found.param) == (Failure.UNSUPPORTED, "messages")


def test_a_document_that_is_no_pdf_is_refused_where_it_stands() -> None:
    file = {"file_data": "data:text/plain;base64,AAAA", "filename": "a.txt"}

    found = refusal({"role": "user", "content": [{"type": "file", "file": file}]})

    assert (found.failure, found.param) == (Failure.UNSUPPORTED, "messages[0].content[0].file")


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("temperature", {"temperature": "hot"}),
        ("tools", {"tools": {"a": 1}}),
        ("tool_choice", {"tool_choice": "required"}),
        ("reasoning_effort", {"reasoning_effort": 3}),
    ],
)
def test_what_makes_no_sense_is_the_callers_fault(param: str, fields: dict[str, Any]) -> None:
    found = refusal(**fields)

    assert (found.failure, found.param) == (Failure.REJECTED, param)


@pytest.mark.parametrize("change", [{"operation": 1}, {"adapter": "lora"}])
def test_only_chat_without_adapters_is_served(change: dict[str, Any]) -> None:
    call, body = attempt()

    with pytest.raises(ProviderError) as caught:
        AnthropicCodec().encode(call._replace(**change), body, {})

    assert caught.value.failure is Failure.UNSUPPORTED
