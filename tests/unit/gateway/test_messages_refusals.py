"""Messages requests that are refused, and the name of the field at fault, as the caller has it."""

import contextlib
import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.anthropic.api import BETAS_MAX, MessagesApi
from gateway.anthropic.schema import NOT_SERVED, OWN_NAMES
from kit.errors import Reason, TurnpikeError
from tests.unit.gateway.messages import (
    ASK,
    CACHE,
    PDF,
    PNG,
    RULES,
    SCHEMA,
    TOOL,
    USE,
    body,
    read,
    result,
    said,
    text,
    user,
)

INVALID: dict[str, tuple[dict[str, Any], Reason, str]] = {
    "no max_tokens": ({"max_tokens": None}, Reason.INVALID_VALUE, "max_tokens"),
    "P13 zero": ({"max_tokens": 0}, Reason.INVALID_VALUE, "max_tokens"),
    "P13 half": ({"max_tokens": 1.5}, Reason.INVALID_VALUE, "max_tokens"),
    "P1": ({"model": ""}, Reason.INVALID_VALUE, "model"),
    "P2": ({"messages": []}, Reason.INVALID_VALUE, "messages"),
    "P3": ({"messages": [{"role": "tool", "content": "x"}]}, Reason.INVALID_VALUE,
           "messages.0.role"),
    "P5": ({"messages": [{"role": "user"}]}, Reason.MISSING_FIELD, "messages.0.content"),
    "P5 empty": ({"messages": [user()]}, Reason.INVALID_VALUE, "messages.0.content"),
    "P6 unknown block": ({"messages": [user({"type": "poem"})]}, Reason.INVALID_VALUE,
                         "messages.0.content.0.type"),
    "P6 unknown key": ({"messages": [user(text("x", size=4))]}, Reason.INVALID_VALUE,
                       "messages.0.content.0.size"),
    "P8 source": ({"messages": [user(text("x"), {"type": "image"})]}, Reason.MISSING_FIELD,
                  "messages.0.content.1.source"),
    "P8 media type": (
        {"messages": [user({"type": "image", "source": {**PNG, "media_type": "image/bmp"}})]},
        Reason.INVALID_VALUE, "messages.0.content.0.source.media_type"),
    "P8 stored file": (
        {"messages": [user({"type": "image", "source": {"type": "file", "file_id": "f"}})]},
        Reason.INVALID_VALUE, "messages.0.content.0.source.type"),
    "P9 by address": (
        {"messages": [user({"type": "document", "source": {"type": "url", "url": "https://e"}})]},
        Reason.INVALID_VALUE, "messages.0.content.0.source.type"),
    "P9 citations": (
        {"messages": [user({"type": "document", "source": PDF, "citations": {"enabled": True}})]},
        Reason.UNSUPPORTED_PARAMETER, "messages.0.content.0.citations"),
    "P4 result of no call": ({"messages": [user(result("x"))]}, Reason.INVALID_VALUE,
                             "messages.0.content.0.tool_use_id"),
    "P4 result behind text": ({"messages": [ASK, said(USE), user(text("x"), result("y"))]},
                              Reason.INVALID_VALUE, "messages.2.content.1"),
    "P10 call by the user": ({"messages": [user(USE)]}, Reason.INVALID_VALUE,
                             "messages.0.content.0"),
    "P10 input is no object": (
        {"messages": [ASK, said({**USE, "input": [1]}), user(result("x"))]},
        Reason.INVALID_VALUE, "messages.1.content.0.input"),
    "image by the assistant": (
        {"messages": [ASK, said({"type": "image", "source": PNG}), ASK]},
        Reason.INVALID_VALUE, "messages.1.content.0"),
    "prefill": ({"messages": [ASK, said(text("{"))]}, Reason.UNSUPPORTED_PARAMETER, "messages.1"),
    "system": ({"system": [{"type": "image", "source": PNG}]}, Reason.INVALID_VALUE,
               "system.0.type"),
    "P11": ({"stream": "yes"}, Reason.INVALID_VALUE, "stream"),
    "P15": ({"temperature": 1.5}, Reason.INVALID_VALUE, "temperature"),
    "P16": ({"top_p": -1}, Reason.INVALID_VALUE, "top_p"),
    "top_k": ({"top_k": -1}, Reason.INVALID_VALUE, "top_k"),
    "top_k half": ({"top_k": 0.5}, Reason.INVALID_VALUE, "top_k"),
    "P17": ({"stop_sequences": ["x"] * 17}, Reason.INVALID_VALUE, "stop_sequences"),
    "P17 kind": ({"stop_sequences": [1]}, Reason.INVALID_VALUE, "stop_sequences.0"),
    "P26 name": ({"tools": [{"input_schema": {}}]}, Reason.MISSING_FIELD, "tools.0.name"),
    "P26 schema": ({"tools": [TOOL, {"name": "x"}]}, Reason.MISSING_FIELD, "tools.1.input_schema"),
    "P26 no object": ({"tools": [5]}, Reason.INVALID_VALUE, "tools.0"),
    "P26 unknown key": ({"tools": [{**TOOL, "size": 4}]}, Reason.INVALID_VALUE, "tools.0.size"),
    "server tool": ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
                    Reason.UNSUPPORTED_PARAMETER, "tools.0.type"),
    "P27 without tools": ({"tool_choice": {"type": "any"}}, Reason.INVALID_VALUE, "tool_choice"),
    "P27 no name": ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, Reason.MISSING_FIELD,
                    "tool_choice.name"),
    "P27 other name": ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "x"}},
                       Reason.INVALID_VALUE, "tool_choice.name"),
    "thinking": ({"thinking": {"type": "enabled"}}, Reason.MISSING_FIELD, "thinking.budget_tokens"),
    "thinking type": ({"thinking": {"type": "loud"}}, Reason.INVALID_VALUE, "thinking.type"),
    "effort": ({"output_config": {"effort": "much"}}, Reason.INVALID_VALUE, "output_config.effort"),
    "format": ({"output_config": {"format": {"type": "json_schema"}}}, Reason.MISSING_FIELD,
               "output_config.format.schema"),
    "two formats": (
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
         "output_format": {"type": "json_schema", "schema": SCHEMA}},
        Reason.INVALID_VALUE, "output_format"),
    "metadata": ({"metadata": {"name": "x"}}, Reason.INVALID_VALUE, "metadata.name"),
    "service_tier": ({"service_tier": "gold"}, Reason.INVALID_VALUE, "service_tier"),
    "P29": ({"timeout_ms": 0}, Reason.INVALID_VALUE, "timeout_ms"),
    **{name: ({name: {"a": 1}}, Reason.UNSUPPORTED_PARAMETER, name) for name in NOT_SERVED},
    **{name: ({name: 1}, Reason.UNSUPPORTED_PARAMETER, name) for name in OWN_NAMES},
}  # fmt: skip


@pytest.mark.parametrize(("more", "reason", "param"), INVALID.values(), ids=INVALID)
def test_bad_fields_are_refused_by_the_callers_own_name(
    more: dict[str, Any], reason: Reason, param: str
) -> None:
    with pytest.raises(TurnpikeError) as caught:
        read(body(**more))

    error = caught.value
    assert (reason, param) == (error.reason, error.metadata["param"])
    assert param in error.message


@pytest.mark.parametrize("name", ["model", "messages", "max_tokens"])
def test_required_fields_are_required(name: str) -> None:
    asked = body()
    del asked[name]

    with pytest.raises(TurnpikeError) as caught:
        read(asked)

    assert (Reason.MISSING_FIELD, name) == (caught.value.reason, caught.value.metadata["param"])


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        json.dumps(body()).encode() + b" x",
        b'{"model":"\xff"}',
        json.dumps(body(messages=[ASK, said(USE), user(result("x"))])).encode()
        .replace(b"Oslo\"}", b'\xff"}'),
        json.dumps(body())[:-1].encode() + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)  # fmt: skip
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    with pytest.raises(TurnpikeError) as caught:
        MessagesApi().read(raw, RULES)

    assert Reason.INVALID_JSON == caught.value.reason


def test_refusal_of_a_server_tool_names_it() -> None:
    with pytest.raises(TurnpikeError, match="web_search_20250305"):
        read(body(tools=[{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}]))


@pytest.mark.parametrize(
    "header", ["a b", "é", "x" * 81, ",".join(f"b{n}" for n in range(BETAS_MAX + 1))]
)
def test_beta_header_that_is_no_list_of_names_is_refused(header: str) -> None:
    with pytest.raises(TurnpikeError) as caught:
        MessagesApi([header]).read(json.dumps(body()).encode(), RULES)

    assert Reason.BAD_REQUEST == caught.value.reason


FULL = body(
    system=[text("x", cache_control=CACHE)],
    messages=[
        ASK,
        said({"type": "thinking", "thinking": "t", "signature": "s"}, text("y"), USE),
        user(result([text("a"), {"type": "image", "source": PNG}], is_error=True)),
        user({"type": "document", "source": PDF, "title": "t", "context": "c"}),
    ],
    tools=[{**TOOL, "strict": True}],
    tool_choice={"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
    stop_sequences=["a"],
    top_k=3,
    temperature=0.5,
    metadata={"user_id": "u"},
    thinking={"type": "enabled", "budget_tokens": 2000},
    output_config={"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from([10**400, "\ud800", "", "text", "tool_use", "base64", [], {}, [[]], "\x00é"]),
    st.sampled_from([TOOL, USE, PNG, PDF, ASK, result("x"), {"type": "url", "url": "x"}]),
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container in a value with each of its keys."""
    if isinstance(value, dict):
        keys: list[Any] = list(value)
    elif isinstance(value, list):
        keys = list(range(len(value)))
    else:
        return []
    return [(value, key) for key in keys] + [at for key in keys for at in places(value[key])]


@given(st.data())
def test_whatever_stands_where_it_should_not_is_read_or_refused(data: st.DataObject) -> None:
    asked = copy.deepcopy(FULL)
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(places(asked)))
        container[key] = copy.deepcopy(data.draw(ODD))

    for api in (MessagesApi(), MessagesApi(is_counting=True)):
        with contextlib.suppress(TurnpikeError):
            api.read(json.dumps(asked).encode(), RULES)


def test_the_request_that_is_bent_is_good_before() -> None:
    assert "m" == read(FULL).model
