"""Requests of Converse, held against botocore's model of the service."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.providers.port import Failure
from tests.fakes.converse_requests import (
    CALLED,
    CLAUDE,
    IMAGE,
    LLAMA,
    LOOK,
    MARK,
    NOVA,
    PDF,
    PIXEL,
    RESULT,
    TOOLS,
    USER,
    encode,
    failure,
    sent,
)

IDS = st.sampled_from(["call_1", "a b/c", "x" * 80, "ünï"])
TEXTS = st.text(max_size=6)
BLOCKS = st.lists(
    st.one_of(
        TEXTS.map(lambda text: {"type": "text", "text": text}),
        st.just({"type": "text", "text": "kept", **MARK}),
        st.just(IMAGE),
    ),
    min_size=1,
    max_size=3,
)


@st.composite
def rounds(draw: st.DrawFn) -> list[dict[str, Any]]:
    """One round of a conversation, perhaps with a use of tools."""
    found: list[dict[str, Any]] = [{"role": "user", "content": draw(TEXTS | BLOCKS)}]
    if draw(st.booleans()):
        found.insert(0, {"role": "system", "content": draw(TEXTS)})
    if draw(st.booleans()):
        call_id = draw(IDS)
        function = {"name": "look", "arguments": '{"at": [1.5, null, "ü"]}'}
        call = {"id": call_id, "type": "function", "function": function}
        thought = {"type": "reasoning.text", "text": "hm", "signature": "s="}
        details = draw(st.sampled_from([[], [thought], [{"type": "x", "data": "c2U="}]]))
        found.append({"role": "assistant", "tool_calls": [call], "reasoning_details": details})
        content = draw(TEXTS | BLOCKS)
        found.append({"role": "tool", "tool_call_id": call_id, "content": content})
    else:
        found.append({"role": "assistant", "content": draw(TEXTS)})
    return found


@given(
    conversation=st.lists(rounds(), max_size=3),
    fields=st.fixed_dictionaries(
        {},
        optional={
            "temperature": st.floats(0, 1),
            "top_p": st.floats(0, 1),
            "top_k": st.integers(0, 500),
            "stop": st.just("x") | st.lists(st.text(min_size=1, max_size=3), max_size=4),
            "reasoning_effort": st.sampled_from(["none", "low", "high", "xhigh"]),
            "tool_choice": st.sampled_from(["auto", "required"]),
            "seed": st.just(3),
        },
    ),
    thinking=st.sampled_from(["none", "budget", "adaptive"]),
    model=st.sampled_from([CLAUDE, NOVA]),
)
def test_every_request_fits_the_model_of_the_service(
    conversation: list[list[dict[str, Any]]], fields: Any, thinking: str, model: str
) -> None:
    messages = [USER, *(message for part in conversation for message in part), USER]

    request = encode(*messages, model=model, options={"thinking": thinking}, tools=TOOLS, **fields)

    roles = [message["role"] for message in json.loads(request.body)["messages"]]
    assert roles == [("user", "assistant")[index % 2] for index in range(len(roles))]
    assert ("seed" in fields) == ("seed" in request.ignored)


def test_sampling_is_said_in_converse_words() -> None:
    found = sent(temperature=0.5, top_p=0.9, top_k=40, stop="END", max_tokens=7)

    assert found["inferenceConfig"] == {
        "maxTokens": 100,
        "temperature": 0.5,
        "topP": 0.9,
        "stopSequences": ["END"],
    }
    assert {"top_k": 40} == found["additionalModelRequestFields"]
    nova = sent(model=NOVA, top_k=40)
    assert {"inferenceConfig": {"topK": 40}} == nova["additionalModelRequestFields"]
    assert ("top_k", Failure.UNSUPPORTED) == (
        (error := failure(model=LLAMA, top_k=40)).param,
        error.failure,
    )


def test_marks_for_the_cache_keep_their_time() -> None:
    marked = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    found = sent(
        {"role": "user", "content": [{"type": "text", "text": "a", **marked}]},
        tools=[{**TOOLS[0], **marked}],
    )

    mark = {"cachePoint": {"type": "default", "ttl": "1h"}}
    assert [{"text": "a"}, mark] == found["messages"][0]["content"]
    assert mark == found["toolConfig"]["tools"][1]


def test_instructions_stand_apart_and_results_come_first() -> None:
    found = sent(
        {"role": "system", "content": "a"},
        USER,
        CALLED,
        {**RESULT, "content": [{"type": "text", "text": "seen"}, IMAGE]},
        {"role": "developer", "content": [{"type": "text", "text": "b", **MARK}]},
        USER,
        tools=TOOLS,
    )

    assert [{"text": "a"}, {"text": "b"}, {"cachePoint": {"type": "default"}}] == found["system"]
    assert {"toolUseId": "call_1", "name": "look", "input": {"a": 1}} == found["messages"][1][
        "content"
    ][0]["toolUse"]
    result, said = found["messages"][2]["content"]
    image = {"image": {"format": "png", "source": {"bytes": PIXEL}}}
    assert [{"text": "seen"}, image] == result["toolResult"]["content"]
    assert {"text": "hello"} == said


def test_documents_have_safe_names_that_differ() -> None:
    content = [{"type": "text", "text": "read"}, PDF, PDF]
    found = sent({"role": "user", "content": content})["messages"][0]["content"]

    names = [block["document"]["name"] for block in found[1:]]
    assert ["a b c (1) v2", "a b c (1) v2 2"] == names
    assert Failure.UNSUPPORTED is failure({"role": "user", "content": [PDF]}).failure


@pytest.mark.parametrize(
    ("choice", "want"),
    [
        ("auto", None),
        (None, None),
        ("required", {"any": {}}),
        ({"type": "function", "function": {"name": "look"}}, {"tool": {"name": "look"}}),
    ],
)
def test_choice_of_tools(choice: Any, want: Any) -> None:
    config = sent(tools=[{**TOOLS[0], **MARK}], tool_choice=choice)["toolConfig"]

    spec = {"name": "look", "description": "Looks.", "inputSchema": {"json": LOOK["parameters"]}}
    assert [{"toolSpec": spec}, {"cachePoint": {"type": "default"}}] == config["tools"]
    assert want == config.get("toolChoice")


def test_no_tools_are_sent_when_none_may_be_called() -> None:
    assert "toolConfig" not in sent(tools=TOOLS, tool_choice="none")
    assert "tool_choice" == failure(USER, CALLED, RESULT, tools=TOOLS, tool_choice="none").param
    assert "tools" == failure(USER, CALLED, RESULT).param


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2),
        ("logprobs", True),
        ("frequency_penalty", 0.5),
        ("parallel_tool_calls", False),
        ("min_p", 0.1),
        ("guided_regex", "a+"),
        ("guided_grammar", "root ::= a"),
        ("guided_json", {"type": "array"}),
        ("temperature", 1.5),
        ("tool_choice", {"type": "custom", "custom": {"name": "x"}}),
        ("tools", [{"type": "custom", "custom": {"name": "x"}}]),
    ],
)
def test_what_cannot_be_said_is_refused_with_its_name(field: str, value: Any) -> None:
    more = {"tools": TOOLS} if field == "tool_choice" else {}

    error = failure(**more, **{field: value})

    assert (Failure.UNSUPPORTED, field) == (error.failure, error.param.partition("[")[0])


@pytest.mark.parametrize(
    ("field", "value"),
    [("top_k", "many"), ("stop", 7), ("tools", [3]), ("tools", {"a": 1}), ("tool_choice", 3)],
)
def test_field_of_an_odd_form_is_refused_with_its_name(field: str, value: Any) -> None:
    error = failure(**{field: value})

    assert (Failure.REJECTED, field) == (error.failure, error.param)


def test_blank_texts_join_the_text_before_or_go() -> None:
    blocks = [{"type": "text", "text": text, **MARK} for text in (" ", "a", "\n", "b")]
    blank = {"role": "system", "content": "  "}
    function = {"name": "look", "description": " "}
    found = sent(
        blank,
        {"role": "user", "content": [*blocks[:2], {"type": "text", "text": "c"}, *blocks[2:]]},
        CALLED,
        {**RESULT, "content": " "},
        tools=[{"type": "function", "function": function}],
    )

    mark = {"cachePoint": {"type": "default"}}
    want = [{"text": "a"}, mark, {"text": "c\n"}, mark, {"text": "b"}, mark]
    assert want == found["messages"][0]["content"]
    assert "system" not in found
    assert [] == found["messages"][2]["content"][0]["toolResult"]["content"]
    assert "description" not in found["toolConfig"]["tools"][0]["toolSpec"]


def test_cache_marks_mean_nothing_to_models_without_a_cache() -> None:
    marked = {"role": "user", "content": [{"type": "text", "text": "a", **MARK}]}

    assert ("cache_control",) == encode(marked, model=LLAMA).ignored
    assert [{"text": "a"}] == sent(marked, model=LLAMA)["messages"][0]["content"]
    assert {"cachePoint": {"type": "default"}} in sent(marked)["messages"][0]["content"]
    tools = [{**TOOLS[0], **MARK}]
    assert ("cache_control",) == encode(tools=tools, model=NOVA).ignored


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "a"}],
        [{"role": "assistant", "content": "a"}, USER],
        [USER, {"role": "assistant", "content": "a"}],
        [{"role": "user", "content": " "}],
        [
            USER,
            {**CALLED, "tool_calls": [{"id": "a", "function": {"name": "x", "arguments": "["}}]},
        ],
    ],
)
def test_conversation_that_converse_cannot_have_is_refused(messages: Any) -> None:
    error = failure(*messages, tools=TOOLS)

    assert (Failure.UNSUPPORTED, "messages") == (error.failure, error.param)
