"""A chat completion as Gemini gets it; every request is read by google-genai's types."""

import json
from typing import Any

import msgspec
import pytest

from services.router.constraints import CONSTRAINTS, constraint_of
from services.router.providers.google.gemini_codec import GeminiCodec
from services.router.providers.port import Body, Call, Failure, ProviderError
from services.router.providers.translated import Outgoing
from tests.fakes.gemini_calls import TOOLS, gemini_call
from tests.fakes.gemini_oracle import read_request
from tests.fakes.gemini_script import Json
from turnpike.router.v1 import router_pb2

USER = [{"role": "user", "content": "hi"}]


def body_of(**fields: Any) -> Body:
    return msgspec.json.decode(msgspec.json.encode({"messages": USER, **fields}), type=Body)


def encode(call: Call | None = None, **fields: Any) -> Outgoing:
    body = body_of(**fields)
    call = call or gemini_call()
    if not CONSTRAINTS.isdisjoint(body):
        call = call._replace(constraint=constraint_of(body))
    return GeminiCodec("ai_studio").encode(call, body, {})


def request(call: Call | None = None, **fields: Any) -> Json:
    sent: Json = json.loads(encode(call, **fields).body)
    read_request(sent)
    return sent


def config(call: Call | None = None, **fields: Any) -> Json:
    found: Json = request(call, **fields)["generationConfig"]
    found.pop("thinkingConfig", None)
    return found


def refusal(call: Call | None = None, **fields: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        encode(call, **fields)
    return caught.value


def test_bare_request_bounds_its_answer() -> None:
    sent = request(gemini_call(upstream_model="gemini-2.0-flash"))

    assert {
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "generationConfig": {"maxOutputTokens": 100},
    } == sent


def test_sampling_is_said_in_geminis_words() -> None:
    found = config(
        temperature=1.5,
        top_p=0.5,
        top_k=40,
        stop=["a", "b"],
        seed=7,
        presence_penalty=-1,
        frequency_penalty=0.5,
        max_tokens=5,
    )

    assert {
        "maxOutputTokens": 100,
        "temperature": 1.5,
        "topP": 0.5,
        "topK": 40,
        "stopSequences": ["a", "b"],
        "seed": 7,
        "presencePenalty": -1,
        "frequencyPenalty": 0.5,
    } == found


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": None, "top_p": None, "stop": None, "seed": None},
        {"stop": []},
        {"stop": ""},
        {"frequency_penalty": 0, "presence_penalty": 0.0},
        {"n": 1, "logprobs": False, "logit_bias": {}, "parallel_tool_calls": True},
        {"modalities": ["text"], "tools": [], "tool_choice": "auto"},
    ],
)
def test_what_asks_for_nothing_is_not_said(fields: Json) -> None:
    outgoing = encode(**fields)

    assert {"maxOutputTokens": 100} == config(**fields)
    assert () == outgoing.ignored


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"logit_bias": {"1": 2}}, "logit_bias"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"min_p": 0.1}, "min_p"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"chat_template": "x"}, "chat_template"),
        ({"stop": list("abcdef")}, "stop"),
        ({"top_k": -1}, "top_k"),
        ({"guided_regex": "a+"}, "guided_regex"),
        ({"guided_grammar": "root ::= x"}, "guided_grammar"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": TOOLS, "tool_choice": {"type": "custom"}}, "tool_choice"),
        ({"tools": TOOLS, "response_format": {"type": "json_object"}}, "response_format"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
    ],
)
def test_what_cannot_be_said_is_another_routes(fields: Json, param: str) -> None:
    error = refusal(**fields)

    assert (Failure.UNSUPPORTED, param) == (error.failure, error.param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"tools": [3]}, "tools"),
        ({"tools": TOOLS, "tool_choice": "perhaps"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
    ],
)
def test_what_nobody_understands_is_refused(fields: Json, param: str) -> None:
    error = refusal(**fields)

    assert (Failure.REJECTED, param) == (error.failure, error.param)


def test_best_effort_is_told_when_left_aside() -> None:
    call = gemini_call(upstream_model="gemini-2.0-flash")

    outgoing = encode(call, user="u", metadata={"a": 1}, seed=2**40, reasoning_effort="low")

    assert ("metadata", "reasoning_effort", "seed", "user") == outgoing.ignored


def test_markers_of_caches_are_told() -> None:
    block = {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}

    outgoing = encode(messages=[{"role": "user", "content": [block]}])

    assert ("cache_control",) == outgoing.ignored


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"response_format": {"type": "text"}}, {}),
        (
            {"response_format": {"type": "json_object"}},
            {"responseMimeType": "application/json"},
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": SCHEMA, "strict": True},
                }
            },
            {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA},
        ),
        (
            {"guided_json": SCHEMA},
            {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA},
        ),
        (
            {"guided_choice": ["yes", "no", "yes"]},
            {
                "responseMimeType": "text/x.enum",
                "responseSchema": {"type": "STRING", "enum": ["yes", "no"]},
            },
        ),
    ],
)
def test_constraints_are_said(fields: Json, wanted: Json) -> None:
    assert {"maxOutputTokens": 100, **wanted} == config(**fields)


def test_third_generation_calls_tools_in_a_constrained_answer() -> None:
    call = gemini_call(upstream_model="gemini-3-flash-preview")

    found = config(call, tools=TOOLS, guided_json=SCHEMA)

    assert SCHEMA == found["responseJsonSchema"]


def test_tools_keep_their_schemas() -> None:
    sent = request(tools=TOOLS)

    first, second = sent["tools"][0]["functionDeclarations"]
    assert TOOLS[0]["function"]["parameters"] == first["parametersJsonSchema"]
    assert {"name": "now"} == second
    assert {"functionCallingConfig": {"mode": "AUTO"}} == sent["toolConfig"]


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        (
            {"type": "function", "function": {"name": "now"}},
            {"mode": "ANY", "allowedFunctionNames": ["now"]},
        ),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [{"type": "function", "function": {"name": "now"}}],
                },
            },
            {"mode": "ANY", "allowedFunctionNames": ["now"]},
        ),
    ],
)
def test_choices_of_tools_are_modes(choice: Any, wanted: Json) -> None:
    sent = request(tools=TOOLS, tool_choice=choice)

    assert wanted == sent["toolConfig"]["functionCallingConfig"]


def test_strict_tools_are_validated() -> None:
    strict = {"type": "function", "function": {"name": "f", "strict": True}}

    sent = request(tools=[strict])

    assert {"mode": "VALIDATED"} == sent["toolConfig"]["functionCallingConfig"]


@pytest.mark.parametrize(
    ("model", "is_streaming", "path"),
    [
        ("gemini-2.5-pro", True, "/models/gemini-2.5-pro:streamGenerateContent?alt=sse"),
        ("models/x", False, "/models/x:generateContent"),
        ("tunedModels/a b", False, "/tunedModels/a%20b:generateContent"),
    ],
)
def test_model_stands_in_the_path(model: str, is_streaming: bool, path: str) -> None:
    assert path == encode(gemini_call(upstream_model=model, is_streaming=is_streaming)).path


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-2.5-pro", "/publishers/google/models/gemini-2.5-pro:generateContent"),
        ("google/gemini-2.5-pro", "/publishers/google/models/gemini-2.5-pro:generateContent"),
        ("endpoints/123", "/endpoints/123:generateContent"),
    ],
)
def test_model_on_vertex_is_a_publishers(model: str, path: str) -> None:
    call = gemini_call(upstream_model=model, is_streaming=False)

    assert path == GeminiCodec("vertex").encode(call, body_of(), {}).path


def test_other_operations_are_not_served() -> None:
    call = gemini_call(operation=router_pb2.OPERATION_COMPLETION)

    assert Failure.UNSUPPORTED is refusal(call).failure
