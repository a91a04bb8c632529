"""What a Messages request becomes in the chat form, and what is refused with which field named."""

import json
from typing import Any

import pytest

from gateway.anthropic.api import MessagesApi
from gateway.openai.envelope import read_chat
from kit.errors import TurnpikeError
from tests.fixtures.rules import rules
from tests.unit.gateway.messages import (
    ASK,
    CACHE,
    CHAT_TOOL,
    PDF,
    PNG,
    PNG_PART,
    RULES,
    SCHEMA,
    TOOL,
    USE,
    body,
    fields,
    read,
    result,
    said,
    text,
    user,
)

CHAT_ASK = {"role": "user", "content": "Oslo?"}
CHAT_CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {
            "id": "toolu_1",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
        }
    ],
}

MESSAGES: dict[str, tuple[list[Any], list[Any]]] = {
    "P5 text": ([{"role": "user", "content": "Hi"}], [{"role": "user", "content": "Hi"}]),
    "P6 one text block is plain text": ([user(text("Hi"))], [{"role": "user", "content": "Hi"}]),
    "P6 several blocks stay apart": (
        [user(text("a"), text("b"))],
        [{"role": "user", "content": [text("a"), text("b")]}],
    ),
    "P8 image by base64": (
        [user(text("a"), {"type": "image", "source": PNG})],
        [{"role": "user", "content": [text("a"), PNG_PART]}],
    ),
    "P8 image by address": (
        [user({"type": "image", "source": {"type": "url", "url": "https://e.test/a.png"}})],
        [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "https://e.test/a.png"}}]}],
    ),
    "P9 PDF": (
        [user({"type": "document", "source": PDF, "title": "a.pdf", "context": "mine"})],
        [{"role": "user", "content": [
            text("mine"),
            {"type": "file", "file": {"filename": "a.pdf",
                                      "file_data": "data:application/pdf;base64,JVBERi0="}}]}],
    ),
    "P9 PDF without a title": (
        [user({"type": "document", "source": PDF})],
        [{"role": "user", "content": [
            {"type": "file", "file": {"filename": "document.pdf",
                                      "file_data": "data:application/pdf;base64,JVBERi0="}}]}],
    ),
    "P9 plain text document": (
        [user({"type": "document", "title": "T",
               "source": {"type": "text", "media_type": "text/plain", "data": "d"}})],
        [{"role": "user", "content": [text("T"), text("d")]}],
    ),
    "P9 document of blocks": (
        [user({"type": "document", "source": {
            "type": "content", "content": [text("x"), {"type": "image", "source": PNG}]}})],
        [{"role": "user", "content": [text("x"), PNG_PART]}],
    ),
    "P9 document of one string": (
        [user({"type": "document", "source": {"type": "content", "content": "x"}})],
        [{"role": "user", "content": "x"}],
    ),
    "P3 system in the middle": (
        [ASK, said(text("Yes")), {"role": "system", "content": [text("Be short.")]}, ASK],
        [CHAT_ASK, {"role": "assistant", "content": "Yes"},
         {"role": "system", "content": "Be short."}, CHAT_ASK],
    ),
    "P10 tool call and its result": (
        [ASK, said(USE), user(result("rain"))],
        [CHAT_ASK, CHAT_CALL, {"role": "tool", "tool_call_id": "toolu_1", "content": "rain"}],
    ),
    "P10 text around a call is one text": (
        [ASK, said(text("Let "), USE, text("me.")), user(result("rain"), text("And?"))],
        [CHAT_ASK, {**CHAT_CALL, "content": "Let me."},
         {"role": "tool", "tool_call_id": "toolu_1", "content": "rain"},
         {"role": "user", "content": "And?"}],
    ),
    "P4 result without content": (
        [ASK, said(USE), user(result())],
        [CHAT_ASK, CHAT_CALL, {"role": "tool", "tool_call_id": "toolu_1", "content": ""}],
    ),
    "P4 result with an image": (
        [ASK, said(USE), user(result([text("seen"), {"type": "image", "source": PNG}]))],
        [CHAT_ASK, CHAT_CALL,
         {"role": "tool", "tool_call_id": "toolu_1", "content": [text("seen"), PNG_PART]}],
    ),
    "P4 failed tool": (
        [ASK, said(USE), user(result("no such city", is_error=True))],
        [CHAT_ASK, CHAT_CALL,
         {"role": "tool", "tool_call_id": "toolu_1", "content": "Error: no such city"}],
    ),
    "P4 tool that failed with an image": (
        [ASK, said(USE), user(result([{"type": "image", "source": PNG}], is_error=True))],
        [CHAT_ASK, CHAT_CALL,
         {"role": "tool", "tool_call_id": "toolu_1", "content": [text("Error:"), PNG_PART]}],
    ),
    "A9 reasoning goes back without its signature": (
        [ASK, said({"type": "thinking", "thinking": "Hm.", "signature": "sig"}, text("Yes")), ASK],
        [CHAT_ASK, {"role": "assistant", "content": "Yes", "reasoning_content": "Hm."}, CHAT_ASK],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("messages", "chat"), MESSAGES.values(), ids=MESSAGES)
def test_messages_become_chat_messages(messages: list[Any], chat: list[Any]) -> None:
    assert chat == fields(read(body(messages=messages)))["messages"]


@pytest.mark.parametrize(
    ("system", "content"),
    [
        ("Be kind.", "Be kind."),
        ([text("Be kind.")], "Be kind."),
        ([text("a"), text("b")], [text("a"), text("b")]),
    ],
)
def test_system_is_the_first_message(system: Any, content: Any) -> None:
    first, second = fields(read(body(system=system)))["messages"]

    assert {"role": "system", "content": content} == first
    assert "user" == second["role"]


FIELDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "P11 stream is off unless asked for": ({}, {"stream": False}),
    "P11": ({"stream": True}, {"stream": True}),
    "P13": ({"max_tokens": 77}, {"max_tokens": 77}),
    "P15": ({"temperature": 0.5}, {"temperature": 0.5}),
    "P16": ({"top_p": 0.25}, {"top_p": 0.25}),
    "top_k": ({"top_k": 40.0}, {"top_k": 40}),
    "P17": ({"stop_sequences": ["a", "b"]}, {"stop": ["a", "b"]}),
    "P26": ({"tools": [TOOL]}, {"tools": [CHAT_TOOL]}),
    "P26 custom and strict": (
        {"tools": [{**TOOL, "type": "custom", "strict": True}]},
        {"tools": [{**CHAT_TOOL, "function": {**CHAT_TOOL["function"], "strict": True}}]},  # type: ignore[dict-item]
    ),
    "P27 auto": ({"tools": [TOOL], "tool_choice": {"type": "auto"}}, {"tool_choice": "auto"}),
    "P27 any": ({"tools": [TOOL], "tool_choice": {"type": "any"}}, {"tool_choice": "required"}),
    "P27 none": ({"tools": [TOOL], "tool_choice": {"type": "none"}}, {"tool_choice": "none"}),
    "P27 tool": (
        {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "weather"}},
        {"tool_choice": {"type": "function", "function": {"name": "weather"}}},
    ),
    "P28": (
        {"tools": [TOOL], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        {"tool_choice": "auto", "parallel_tool_calls": False},
    ),
    "user": ({"metadata": {"user_id": "u1"}}, {"user": "u1"}),
    "service_tier": ({"service_tier": "standard_only"}, {"service_tier": "default"}),
    "P25": (
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        {"response_format": {"type": "json_schema", "json_schema": {
            "name": "output", "schema": SCHEMA, "strict": True}}},
    ),
    "P25 by its older name": (
        {"output_format": {"type": "json_schema", "schema": SCHEMA}},
        {"response_format": {"type": "json_schema", "json_schema": {
            "name": "output", "schema": SCHEMA, "strict": True}}},
    ),
    "effort": ({"output_config": {"effort": "low"}}, {"reasoning_effort": "low"}),
    "P20 fields of chat completions keep their meaning": ({"seed": 7}, {"seed": 7}),
    "P29 is Turnpike's own": ({"timeout_ms": 900}, {}),
    "nulls say nothing": (
        {"container": None, "mcp_servers": None, "thinking": None, "system": None}, {}),
}  # fmt: skip


@pytest.mark.parametrize(("asked", "chat"), FIELDS.values(), ids=FIELDS)
def test_fields_become_fields_of_chat_completions(
    asked: dict[str, Any], chat: dict[str, Any]
) -> None:
    found = fields(read(body(**asked)))

    usual = {"model": "m", "stream": False, "max_tokens": 9, "messages": found["messages"]}
    tools = {"tools": found["tools"]} if "tools" in asked else {}
    assert usual | tools | chat == found


IGNORED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "nothing": ({}, ()),
    "marker on a call": (
        {"messages": [ASK, said({**USE, "cache_control": CACHE}), user(result("c"))]},
        ("cache_control",),
    ),
    "signature and citations": (
        {"messages": [ASK, said({"type": "thinking", "thinking": "x", "signature": "s"},
                                {"type": "redacted_thinking", "data": "d"},
                                text("b", citations=[{}])), ASK]},
        ("citations", "redacted_thinking", "thinking.signature"),
    ),
    "what Turnpike itself said": (
        {"messages": [ASK, said({"type": "thinking", "thinking": "x", "signature": ""},
                                text("b", citations=None),
                                {**USE, "caller": {"type": "direct"}}), user(result("c"))]},
        (),
    ),
    "effort": ({"output_config": {"effort": "max"}}, ("output_config.effort",)),
    "tools": (
        {"tools": [{**TOOL, "defer_loading": True, "input_examples": [{"city": "Rome"}],
                    "eager_input_streaming": False, "allowed_callers": ["direct"]}]},
        ("tools.defer_loading", "tools.eager_input_streaming", "tools.input_examples"),
    ),
    "speed": ({"speed": "fast"}, ("speed",)),
    "diagnostics": ({"diagnostics": {}}, ("diagnostics",)),
    "image": (
        {"messages": [user({"type": "image", "source": PNG,
                            "transformations": {"oversized_image": "error"}})]},
        ("transformations",),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("asked", "ignored"), IGNORED.values(), ids=IGNORED)
def test_best_effort_fields_that_are_left_out_are_named(
    asked: dict[str, Any], ignored: tuple[str, ...]
) -> None:
    assert ignored == read(body(**asked)).ignored


HOUR = {**CACHE, "ttl": "1h"}
PART = {"type": "text", "text": "a"}
MARKED: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "system": (
        {"system": [text("a", cache_control=CACHE), text("b")]},
        [{"role": "system", "content": [{**PART, "cache_control": CACHE}, {**PART, "text": "b"}]}],
    ),
    "text": (
        {"messages": [user(text("a", cache_control=HOUR))]},
        [{"role": "user", "content": [{**PART, "cache_control": HOUR}]}],
    ),
    "image": (
        {"messages": [user({"type": "image", "source": PNG, "cache_control": CACHE})]},
        [{"role": "user", "content": [{**PNG_PART, "cache_control": CACHE}]}],
    ),
    "document of blocks": (
        {"messages": [user({"type": "document", "title": "t", "cache_control": HOUR, "source":
            {"type": "content", "content": [text("a", cache_control=CACHE), text("b")]}})]},
        [{"role": "user", "content": [{**PART, "text": "t"}, {**PART, "cache_control": CACHE},
                                      {**PART, "text": "b", "cache_control": HOUR}]}],
    ),
    "assistant": (
        {"messages": [ASK, said(text("a", cache_control=CACHE), text("b")), user(text("a"))]},
        [{"role": "assistant",
          "content": [{**PART, "cache_control": CACHE}, {**PART, "text": "b"}]},
         {"role": "user", "content": "a"}],
    ),
    "result and its block": (
        {"messages": [ASK, said(USE), user(
            {**result([text("a", cache_control=CACHE)]), "cache_control": HOUR})]},
        [{"role": "tool", "tool_call_id": USE["id"], "cache_control": HOUR,
          "content": [{**PART, "cache_control": CACHE}]}],
    ),
    "error": (
        {"messages": [ASK, said(USE), user(
            {**result([text("a", cache_control=CACHE)]), "is_error": True})]},
        [{"role": "tool", "tool_call_id": USE["id"],
          "content": [{**PART, "text": "Error: a", "cache_control": CACHE}]}],
    ),
    "top level": (
        {"cache_control": HOUR, "messages": [user(text("a"))]},
        [{"role": "user", "content": "a", "cache_control": HOUR}],
    ),
    "top level behind a marker": (
        {"cache_control": HOUR, "messages": [user(text("a", cache_control=CACHE))]},
        [{"role": "user", "content": [{**PART, "cache_control": CACHE}]}],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("asked", "messages"), MARKED.values(), ids=MARKED)
def test_cache_markers_stay_on_what_they_mark(
    asked: dict[str, Any], messages: list[dict[str, Any]]
) -> None:
    call = read(body(**asked))

    found = fields(call)["messages"]

    first = 0 if "system" in asked else -len(messages)
    assert messages == found[first:][: len(messages)]
    assert () == call.ignored


def test_marker_of_a_tool_stays_on_it() -> None:
    call = read(body(tools=[{**TOOL, "cache_control": HOUR}, TOOL]))

    marked, plain = fields(call)["tools"]

    assert {**plain, "cache_control": HOUR} == marked
    assert () == call.ignored


@pytest.mark.parametrize(
    ("thinking", "is_on", "ignored"),
    [
        ({"type": "enabled", "budget_tokens": 2048}, True, {"thinking.budget_tokens"}),
        ({"type": "adaptive", "display": "omitted"}, True, {"thinking.display"}),
        ({"type": "disabled"}, False, set()),
    ],
)
def test_thinking_switches_the_template_or_is_named(
    thinking: dict[str, Any], is_on: bool, ignored: set[str]
) -> None:
    call = read(body(thinking=thinking))

    switched = fields(call)["chat_template_kwargs"]
    assert ({"enable_thinking": is_on}, ignored) == (switched, set(call.ignored))


@pytest.mark.parametrize("asked", [{"top_k": 5}, {"top_k": 0}])
def test_top_k_must_be_honoured_by_the_route(asked: dict[str, Any]) -> None:
    assert "top_k" in read(body(**asked)).features


@pytest.mark.parametrize("more", [{}, {"shoe_size": 44}, {"min_p": 0.1}, {"seed": "x"}])
@pytest.mark.parametrize("is_strict", [False, True])
def test_other_fields_are_read_as_chat_completions_read_them(
    more: dict[str, Any], is_strict: bool
) -> None:
    rules = RULES._replace(is_strict=is_strict)
    chat = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}]} | more)

    def outcome(reads: Any) -> Any:
        try:
            call = reads()
        except TurnpikeError as error:
            return error.reason, error.metadata.get("param")
        return call.unknown_fields, [bytes(call.fields[name]) for name in more]

    expected = outcome(lambda: read_chat(chat.encode(), rules))
    assert expected == outcome(lambda: read(body(**more), rules))


@pytest.mark.parametrize(
    ("headers", "ignored"),
    [
        ([], ()),
        (["pdfs-2024-09-25"], ()),
        (["fine-grained-tool-streaming-2025-05-14, skills-2025-10-02"],
         ("anthropic-beta:skills-2025-10-02",)),
        (["b", "a,b"], ("anthropic-beta:a", "anthropic-beta:b")),
    ],
)  # fmt: skip
def test_betas_that_are_not_done_are_named(headers: list[str], ignored: tuple[str, ...]) -> None:
    call = MessagesApi(headers).read(json.dumps(body()).encode(), RULES)

    assert ignored == call.ignored


def test_dialect_gives_defaults_but_never_streams_unasked() -> None:
    call = read(body(), rules("vram"))

    assert (False, 9) == (call.is_streaming, call.asked_max_tokens)
    assert 1.0 == fields(call)["temperature"]
