"""What is refused of a request for a response, and how the field at fault is called."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.responses import schema
from gateway.responses.request import read_responses
from kit.errors import Reason, TurnpikeError
from tests.fixtures.responses import ask
from tests.fixtures.rules import rules
from tests.unit.gateway.responses.asked import CALL, IMAGE, OUTPUT, PDF, THOUGHT, TOOL, said, user

BAD = Reason.INVALID_VALUE
LACKS = Reason.MISSING_FIELD
NOT_SERVED = Reason.UNSUPPORTED_PARAMETER


@pytest.mark.parametrize(
    ("asked", "reason", "param"),
    [
        ({"model": None}, BAD, "model"),
        ({"model": ""}, BAD, "model"),
        ({"input": None}, LACKS, "input"),
        ({"input": []}, BAD, "input"),
        ({"input": 5}, BAD, "input"),
        ({"input": [5]}, BAD, "input[0]"),
        ({"input": [{}]}, LACKS, "input[0].role"),
        ({"input": [{"type": 5}]}, BAD, "input[0].type"),
        ({"input": [{"role": "king", "content": "x"}]}, BAD, "input[0].role"),
        ({"input": [{"role": "user"}]}, LACKS, "input[0].content"),
        ({"input": user()}, BAD, "input[0].content"),
        ({"input": user({"text": "x"})}, LACKS, "input[0].content[0].type"),
        ({"input": user({"type": "input_text"})}, LACKS, "input[0].content[0].text"),
        ({"input": user({"type": "input_text", "text": "x", "color": "red"})}, NOT_SERVED,
         "input[0].content[0].color"),
        ({"input": user({"type": "output_text", "text": "x"})}, NOT_SERVED,
         "input[0].content[0].type"),
        ({"input": user({"type": "input_audio"})}, NOT_SERVED, "input[0].content[0].type"),
        ({"input": [said("a"), *user({"type": "input_image"})]}, LACKS,
         "input[1].content[0].image_url"),
        ({"input": user({"type": "input_image", "image_url": 5})}, BAD,
         "input[0].content[0].image_url"),
        ({"input": user({"type": "input_image", "file_id": "file-1"})}, NOT_SERVED,
         "input[0].content[0].file_id"),
        ({"input": user({"type": "input_file", "file_id": "file-1"})}, NOT_SERVED,
         "input[0].content[0].file_id"),
        ({"input": user({"type": "input_file", "file_url": "https://x"})}, NOT_SERVED,
         "input[0].content[0].file_url"),
        ({"input": user({"type": "input_file"})}, LACKS, "input[0].content[0].file_data"),
        ({"input": user({"type": "input_file", "file_data": PDF, "detail": "high"})}, BAD,
         "input[0].content[0].detail"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, NOT_SERVED, "input[0].type"),
        ({"input": [{"id": "msg_1"}]}, NOT_SERVED, "input[0].type"),
        *[({"input": [{"type": kind, "id": "x"}]}, NOT_SERVED, "input[0].type")
          for kind in ("web_search_call", "file_search_call", "computer_call", "mcp_call",
                       "code_interpreter_call", "image_generation_call", "custom_tool_call",
                       "computer_call_output", "local_shell_call", "compaction")],
        ({"input": [{**CALL, "arguments": {}}]}, BAD, "input[0].arguments"),
        ({"input": [{"type": "function_call", "name": "f", "arguments": ""}]}, LACKS,
         "input[0].call_id"),
        ({"input": [{**CALL, "namespace": "n"}]}, NOT_SERVED, "input[0].namespace"),
        ({"input": [{"role": "user", "content": "x"}, OUTPUT]}, BAD, "input[1].call_id"),
        ({"input": [CALL, {**OUTPUT, "output": [{"type": "refusal"}]}]}, NOT_SERVED,
         "input[1].output[0].type"),
        ({"input": [{**THOUGHT, "content": [{"type": "reasoning_text"}]}]}, LACKS,
         "input[0].content[0].text"),
        ({"instructions": 5}, BAD, "instructions"),
        ({"instructions": [{"role": "user", "content": "x"}]}, BAD, "instructions"),
        ({"max_output_tokens": 0}, BAD, "max_output_tokens"),
        ({"max_output_tokens": 1.5}, BAD, "max_output_tokens"),
        ({"max_output_tokens": 10**400}, BAD, "max_output_tokens"),
        ({"top_logprobs": 10**400}, BAD, "top_logprobs"),
        ({"max_tool_calls": 10**400}, BAD, "max_tool_calls"),
        ({"max_output_tokens": "7"}, BAD, "max_output_tokens"),
        ({"max_tool_calls": 0}, BAD, "max_tool_calls"),
        ({"temperature": 2.1}, BAD, "temperature"),
        ({"top_p": -1}, BAD, "top_p"),
        ({"top_logprobs": 21}, BAD, "top_logprobs"),
        ({"timeout_ms": 30_001}, BAD, "timeout_ms"),
        ({"stream": "yes"}, BAD, "stream"),
        ({"stream_options": {}}, BAD, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": True}}, NOT_SERVED,
         "stream_options.include_usage"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, NOT_SERVED,
         "stream_options.include_obfuscation"),
        *[({"tools": [TOOL, {"type": kind}]}, NOT_SERVED, "tools[1].type")
          for kind in ("web_search", "web_search_preview", "file_search", "code_interpreter",
                       "mcp", "image_generation", "computer_use_preview", "computer", "custom",
                       "local_shell", "shell", "apply_patch", "namespace", "tool_search")],
        ({"tools": [{}]}, LACKS, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, LACKS, "tools[0].name"),
        ({"tools": [{"type": "function", "name": ""}]}, BAD, "tools[0].name"),
        ({"tools": [{**TOOL, "parameters": 5}]}, BAD, "tools[0].parameters"),
        ({"tools": [{**TOOL, "defer_loading": True}]}, NOT_SERVED, "tools[0].defer_loading"),
        ({"tool_choice": "maybe"}, BAD, "tool_choice"),
        ({"tool_choice": 5}, BAD, "tool_choice"),
        ({"tool_choice": {"type": "web_search"}}, NOT_SERVED, "tool_choice.type"),
        ({"tool_choice": {"type": "function"}}, LACKS, "tool_choice.name"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}},
         BAD, "tool_choice.tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "mode": "auto",
                                           "tools": [{"type": "function", "name": "g"}]}},
         BAD, "tool_choice.tools[0].name"),
        ({"text": {"format": {"type": "xml"}}}, NOT_SERVED, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, LACKS, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "name": "n", "schema": 5}}}, BAD,
         "text.format.schema"),
        ({"text": {"verbosity": "huge"}}, BAD, "text.verbosity"),
        ({"text": {"tone": "warm"}}, NOT_SERVED, "text.tone"),
        ({"reasoning": {"mode": "pro"}}, BAD, "reasoning.mode"),
        ({"reasoning": {"effort": 5}}, BAD, "reasoning.effort"),
        ({"reasoning": {"budget": 5}}, NOT_SERVED, "reasoning.budget"),
        ({"include": ["everything"]}, BAD, "include[0]"),
        ({"metadata": {"a": 5}}, BAD, "metadata[...]"),
        ({"metadata": {str(n): "" for n in range(17)}}, BAD, "metadata"),
        ({"truncation": "auto"}, NOT_SERVED, "truncation"),
        ({"background": True}, NOT_SERVED, "background"),
        ({"previous_response_id": "resp_1"}, NOT_SERVED, "previous_response_id"),
        ({"conversation": "conv_1"}, NOT_SERVED, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, NOT_SERVED, "prompt"),
        ({"context_management": [{"type": "compaction"}]}, NOT_SERVED, "context_management"),
        ({"moderation": {"model": "m"}}, NOT_SERVED, "moderation"),
        *[({name: 1}, NOT_SERVED, name)
          for name in ("messages", "max_tokens", "max_completion_tokens", "response_format",
                       "reasoning_effort", "verbosity", "logprobs", "functions",
                       "function_call", "n", "audio", "modalities")],
    ],
)  # fmt: skip
def test_bad_fields_are_refused_by_the_callers_own_names(
    asked: dict[str, Any], reason: Reason, param: str
) -> None:
    with pytest.raises(TurnpikeError) as caught:
        ask(**asked)

    assert (reason, param) == (caught.value.reason, caught.value.metadata.get("param"))
    assert param.removesuffix("[...]") in caught.value.message


@pytest.mark.parametrize("raw", [b"", b"{", b'{"model":"\xff"}', b'{"x":' + b"[" * 100_000])
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    with pytest.raises(TurnpikeError) as caught:
        read_responses(raw, rules())

    assert Reason.INVALID_JSON is caught.value.reason


@pytest.mark.parametrize(
    "body",
    [
        '{"model":"m","input":[{"role":"user","content":%s}]}',
        '{"model":"m","input":[{"role":"user","content":"x","odd":%s}]}',
        '{"model":"m","input":[{"role":"user","content":'
        '[{"type":"input_text","text":"x","prompt_cache_breakpoint":%s}]}]}',
        '{"model":"m","input":[{"role":"assistant","content":'
        '[{"type":"output_text","text":"x","annotations":[%s]}]}]}',
        '{"model":"m","input":"x","tools":[{"type":"function","name":"f","parameters":{"a":%s}}]}',
        '{"model":"m","input":"x","odd":%s}',
    ],
)
def test_nesting_of_any_depth_is_read_or_refused(body: str) -> None:
    reasons = set()
    for depth in range(1, 1100):
        nested = "[" * depth + "]" * depth
        try:
            read_responses((body % nested).encode(), rules())
        except TurnpikeError as error:
            reasons.add(error.reason)

    assert Reason.INVALID_JSON in reasons
    assert reasons <= {BAD, NOT_SERVED, Reason.INVALID_JSON}


NAMES = sorted(
    {
        name
        for struct in vars(schema).values()
        if isinstance(struct, type) and issubclass(struct, msgspec.Struct)
        for name in struct.__struct_fields__
    }
)
KINDS = ["message", "function_call", "function_call_output", "reasoning", "input_text", "refusal"]
KINDS += ["input_image", "output_text", "function", "allowed_tools", "json_schema", "user"]
PLAIN = st.none() | st.booleans() | st.integers(-3, 2**70) | st.floats() | st.sampled_from(KINDS)
VALUES = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5)
    ),
    max_leaves=25,
)


@given(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6))
def test_whatever_is_asked_is_read_or_refused(fields: dict[str, Any]) -> None:
    status = 200
    try:
        ask(**fields)
    except TurnpikeError as error:
        status = error.outward.http_status

    assert status in (200, 400)


@pytest.mark.parametrize(
    ("chat", "ours"),
    [
        ("messages", "input"),
        ("messages[0].content", "instructions"),
        ("messages[0].role", "instructions"),
        ("messages[1].content", "input[0].content"),
        ("messages[1].content[1].image_url.url", "input[0].content[1].image_url"),
        ("messages[1].content[1].image_url.detail", "input[0].content[1].detail"),
        ("messages[1].content[2].file.file_data", "input[0].content[2].file_data"),
        ("messages[1].content[0].text", "input[0].content[0].text"),
        ("messages[2].reasoning_content", "input[1].content"),
        ("messages[2].content", "input[2].content"),
        ("messages[2].tool_calls[0].function.arguments", "input[3].arguments"),
        ("messages[2].tool_calls[1].function.name", "input[4].name"),
        ("messages[2].tool_calls[1].id", "input[4].call_id"),
        ("messages[3].tool_call_id", "input[5].call_id"),
        ("messages[3].content", "input[5].output"),
        ("messages[9].content", "messages[9].content"),
        ("max_tokens", "max_output_tokens"),
        ("max_completion_tokens", "max_output_tokens"),
        ("response_format", "text.format"),
        ("response_format.json_schema.schema", "text.format.schema"),
        ("reasoning_effort", "reasoning.effort"),
        ("verbosity", "text.verbosity"),
        ("logprobs", "include"),
        ("tools[0].function.name", "tools[1].name"),
        ("tools[0].function.parameters", "tools[1].parameters"),
        ("tool_choice.function.name", "tool_choice.name"),
        ("temperature", "temperature"),
        ("tools", "tools"),
    ],
)
def test_errors_about_the_chat_completion_name_the_callers_field(chat: str, ours: str) -> None:
    parts = [
        {"type": "input_text", "text": "x"},
        {"type": "input_image", "image_url": IMAGE},
        {"type": "input_file", "file_data": PDF},
    ]
    items = [*user(*parts), THOUGHT, said("So"), CALL, {**CALL, "call_id": "c2"}, OUTPUT]
    _, asked = ask(
        instructions="Be brief.",
        input=items,
        tools=[{**TOOL, "name": "g"}, TOOL],
        tool_choice={
            "type": "allowed_tools",
            "mode": "required",
            "tools": [{"type": "function", "name": "f"}],
        },
    )
    error = TurnpikeError(Reason.INVALID_VALUE, f"{chat} is wrong.", param=chat, request_id="r")

    named = asked.named(asked.named(error))

    assert (ours, f"{ours} is wrong.") == (named.metadata["param"], named.message)
    assert "r" == named.metadata["request_id"]


def test_text_input_is_called_input() -> None:
    _, asked = ask()
    error = TurnpikeError(Reason.INVALID_VALUE, "It is odd.", param="messages[0].content")

    assert "input" == asked.named(error).metadata["param"]
    assert "It is odd." == asked.named(error).message
