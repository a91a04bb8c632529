"""What each vendor that speaks OpenAI is told: honoured, refused, or left aside and told."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.capabilities import BY_ENGINE, capabilities
from services.router.constraints import CONSTRAINTS, constraint_of
from services.router.providers.openai.profiles import BEST_EFFORT, PROFILES, VENDORS
from services.router.providers.openai.request import encode_request
from services.router.providers.openai.vendor_messages import short_id
from services.router.providers.openai.vendor_request import Spelled, VendorRequest
from services.router.providers.port import Failure, ProviderError
from tests.fakes.openai_calls import make_body, make_call
from turnpike.router.v1 import router_pb2

REFUSED = "refused"
OBJECT = {"response_format": {"type": "json_object"}}
KWARGS = "chat_template_kwargs"


def form(kind: str, **more: Any) -> dict[str, Any]:
    return {"response_format": {"type": kind, **more}}


HI = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}, "strict": True}}
LOOSE = {"type": "function", "function": {"name": "f", "parameters": {}}}
SCHEMA = {"type": "object"}


def spelled(engine: str, *, reasons: bool = False, **fields: Any) -> Spelled:
    profile = PROFILES[engine].for_deployment(reasons=reasons, think_tags=False)
    body = make_body(**fields)
    constraint = None if CONSTRAINTS.isdisjoint(body) else constraint_of(body)
    call = make_call(options={"engine": engine}, is_streaming=False, constraint=constraint)
    features = capabilities(engine, reasons=reasons)
    return VendorRequest(profile, features, reasons=reasons).encode(call, body)


def told(engine: str, fields: dict[str, Any], *, reasons: bool = False) -> Any:
    """Return what a vendor is told beyond the usual, and what the caller is told of."""
    found = spelled(engine, reasons=reasons, **fields)
    usual = json.loads(spelled(engine, reasons=reasons).body)
    sent = json.loads(found.body)
    more = {name: value for name, value in sent.items() if usual.get(name) != value}
    return more, list(found.ignored)


TABLE: list[tuple[str, dict[str, Any], Any]] = [
    ("mistral", {"seed": 7}, ({"random_seed": 7}, [])),
    ("mistral", {"tool_choice": "required"}, ({"tool_choice": "any"}, [])),
    ("mistral", {"tool_choice": "auto"}, ({"tool_choice": "auto"}, [])),
    ("mistral", {"user": "u", "store": True}, ({}, ["store", "user"])),
    ("mistral", {"metadata": {"a": "b"}}, ({"metadata": {"a": "b"}}, [])),
    ("mistral", {"logprobs": False, "logit_bias": {}, "n": 1}, ({"n": 1}, [])),
    ("mistral", {"logprobs": True}, REFUSED),
    ("mistral", {"temperature": 0.5, "stop": "a"}, ({"temperature": 0.5, "stop": "a"}, [])),
    ("mistral", {"tools": [TOOL]}, ({"tools": [TOOL]}, [])),
    ("xai", {"tools": [TOOL]}, ({"tools": [LOOSE]}, ["tools.strict"])),
    ("xai", {"presence_penalty": 0, "logit_bias": None}, ({}, [])),
    ("xai", {"presence_penalty": 0.5}, REFUSED),
    ("xai", {"stop": ["a"]}, ({"stop": ["a"]}, [])),
    ("xai", {"reasoning_effort": "low"}, ({}, ["reasoning_effort"])),
    ("deepseek", {"seed": 1, "reasoning_effort": "none"}, ({}, ["reasoning_effort", "seed"])),
    ("deepseek", {"n": 2}, REFUSED),
    ("deepseek", {"parallel_tool_calls": True}, ({}, [])),
    ("deepseek", {"parallel_tool_calls": False}, REFUSED),
    ("hyperbolic", {"tools": [], "tool_choice": "auto"}, ({}, [])),
    ("hyperbolic", {"tools": [TOOL]}, REFUSED),
    ("together", {"top_k": 5, "seed": 3}, ({"top_k": 5, "seed": 3}, [])),
    (
        "together",
        {"guided_regex": "a+"},
        (form("regex", pattern="a+"), []),
    ),
    (
        "together",
        {"guided_choice": ["a.b", "c"]},
        ({"response_format": {"type": "regex", "pattern": r"(a\.b|c)"}}, []),
    ),
    (
        "fireworks",
        {"guided_grammar": "root ::= x"},
        ({"response_format": {"type": "grammar", "grammar": "root ::= x"}}, []),
    ),
    ("trtllm", {"guided_regex": "a+"}, (form("regex", regex="a+"), [])),
    (
        "trtllm",
        {"guided_choice": ["a"]},
        (form("regex", regex="(a)"), []),
    ),
    (
        "trtllm",
        {"guided_grammar": "root ::= x"},
        ({"response_format": {"type": "ebnf", "ebnf": "root ::= x"}}, []),
    ),
    (
        "trtllm",
        {"structural_tag": {"format": {}}},
        ({"response_format": {"format": {}}}, []),
    ),
    ("trtllm", {"store": True, "seed": 1}, ({"seed": 1}, ["store"])),
    ("openrouter", {"reasoning": {"effort": "low"}}, ({"reasoning": {"effort": "low"}}, [])),
    ("openrouter", {"n": 2}, REFUSED),
    (
        "deepseek",
        {"response_format": {"type": "json_object"}},
        ({"response_format": {"type": "json_object"}}, []),
    ),
    ("deepseek", {"guided_json": SCHEMA}, REFUSED),
]


@pytest.mark.parametrize(("engine", "fields", "expected"), TABLE)
def test_field_is_told_refused_or_left_aside(
    engine: str, fields: dict[str, Any], expected: Any
) -> None:
    if expected is REFUSED:
        with pytest.raises(ProviderError) as caught:
            told(engine, fields)
        assert (Failure.UNSUPPORTED, min(fields)) == (caught.value.failure, caught.value.param)
        return

    assert expected == told(engine, fields)


THINK = {KWARGS: {"enable_thinking": True}}
DONT = {KWARGS: {"enable_thinking": False}}
REASONING: list[tuple[str, dict[str, Any], Any]] = [
    ("openai", {"temperature": 1}, ({}, [])),
    ("openai", {"temperature": 0.5}, REFUSED),
    ("openai", {"top_p": 0.5}, REFUSED),
    ("openai", {"stop": ["a"]}, REFUSED),
    ("openai", {"logprobs": True}, REFUSED),
    ("openai", {"reasoning_effort": "low"}, ({"reasoning_effort": "low"}, [])),
    ("openai", THINK, ({"reasoning_effort": "medium"}, [])),
    ("openai", {KWARGS: {"x": 1}}, ({}, [KWARGS])),
    ("vllm", THINK, (THINK, [])),
    ("xai", {"stop": ["a"]}, REFUSED),
    ("xai", {"reasoning_effort": "low"}, ({"reasoning_effort": "low"}, [])),
    ("deepseek", THINK, ({"thinking": {"type": "enabled"}}, [])),
    ("deepseek", DONT, ({"thinking": {"type": "disabled"}}, [])),
    ("deepseek", {"reasoning_effort": "none"}, ({"thinking": {"type": "disabled"}}, [])),
    ("deepseek", {"reasoning_effort": "max"}, ({"reasoning_effort": "max"}, [])),
    ("deepseek", {"temperature": 0.5}, ({"temperature": 0.5}, ["temperature"])),
    (
        "deepseek",
        {"temperature": 0.5, "reasoning_effort": "none"},
        ({"temperature": 0.5, "thinking": {"type": "disabled"}}, []),
    ),
    ("deepseek", {"logprobs": True}, REFUSED),
    ("mistral", DONT, ({"reasoning_effort": "none"}, [])),
    ("fireworks", THINK, ({"reasoning_effort": "medium"}, [])),
    ("fireworks", {**THINK, "reasoning_effort": "low"}, ({"reasoning_effort": "low"}, [KWARGS])),
    ("openrouter", DONT, ({"reasoning": {"enabled": False}}, [])),
    (
        "together",
        {KWARGS: {"enable_thinking": True, "x": 1}},
        ({"reasoning": {"enabled": True}}, [KWARGS]),
    ),
    ("together", {KWARGS: {"x": 1}}, ({}, [KWARGS])),
    ("trtllm", DONT, (DONT, [])),
]


@pytest.mark.parametrize(("engine", "fields", "expected"), REASONING)
def test_field_is_told_to_a_model_that_reasons(
    engine: str, fields: dict[str, Any], expected: Any
) -> None:
    if expected is REFUSED:
        with pytest.raises(ProviderError) as caught:
            told(engine, fields, reasons=True)
        assert (Failure.UNSUPPORTED, min(fields)) == (caught.value.failure, caught.value.param)
        return

    assert expected == told(engine, fields, reasons=True)


def test_some_say_more_in_each_request() -> None:
    def usual(engine: str, *, is_streaming: bool = True) -> Any:
        request = VendorRequest(PROFILES[engine], capabilities(engine), reasons=False)
        call = make_call(is_streaming=is_streaming)
        return json.loads(request.encode(call, make_body()).body)

    base = {"model": "upstream-model", "messages": HI, "stream": True, "max_tokens": 100}
    streamed = {**base, "stream_options": {"include_usage": True}}
    assert base == usual("mistral")
    assert streamed == usual("deepseek")
    assert {**base, "context_length_exceeded_behavior": "error"} == usual("fireworks")
    assert {
        **streamed,
        "provider": {"require_parameters": True},
        "usage": {"include": True},
    } == usual("openrouter")
    assert {**base, "stream": False} == usual("together", is_streaming=False)


TALK = [
    {"role": "developer", "content": "d"},
    {"role": "user", "content": "u", "name": "bob"},
    {"role": "assistant", "content": None, "refusal": "no", "reasoning_content": "hm"},
    {"role": "assistant", "content": [{"type": "refusal", "refusal": "never"}]},
]


@pytest.mark.parametrize(
    ("engine", "expected", "ignored"),
    [
        (
            "mistral",
            [
                {"role": "system", "content": "d"},
                {"role": "user", "content": "u"},
                {"role": "assistant", "content": "no"},
                {"role": "assistant", "content": [{"type": "text", "text": "never"}]},
            ],
            ["messages.name", "messages.reasoning_content"],
        ),
        (
            "deepseek",
            [
                {"role": "system", "content": "d"},
                {"role": "user", "content": "u", "name": "bob"},
                {"role": "assistant", "content": "no", "reasoning_content": "hm"},
                {"role": "assistant", "content": [{"type": "text", "text": "never"}]},
            ],
            [],
        ),
        (
            "openrouter",
            [
                TALK[0],
                TALK[1],
                {"role": "assistant", "content": None, "refusal": "no", "reasoning": "hm"},
                TALK[3],
            ],
            [],
        ),
    ],
)
def test_messages_are_in_the_vendors_words(engine: str, expected: Any, ignored: Any) -> None:
    found = spelled(engine, messages=TALK)

    assert expected == json.loads(found.body)["messages"]
    assert ignored == list(found.ignored)


def test_fill_in_the_middle_takes_one_prompt() -> None:
    body = make_body(suffix="b")
    del body["messages"]
    body["prompt"] = msgspec.Raw(b'["a","b"]')
    call = make_call(operation=router_pb2.OPERATION_COMPLETION)

    for engine in ("mistral", "deepseek"):
        request = VendorRequest(PROFILES[engine], capabilities(engine), reasons=False)
        with pytest.raises(ProviderError) as caught:
            request.encode(call, body)
        assert (Failure.UNSUPPORTED, "prompt") == (caught.value.failure, caught.value.param)


@given(st.text(min_size=1, max_size=256))
def test_short_ids_are_nine_letters_and_stay_the_same(call_id: str) -> None:
    found = short_id(call_id)

    assert 9 == len(found)
    assert found.isascii()
    assert found.isalnum()
    assert found == short_id(call_id) == short_id(found)


@pytest.mark.parametrize("name", ["messages", "tools"])
def test_what_cannot_be_read_is_rejected(name: str) -> None:
    with pytest.raises(ProviderError) as caught:
        told("mistral", {name: [7]})

    assert (Failure.REJECTED, name) == (caught.value.failure, caught.value.param)


def test_a_plain_profile_says_what_openai_is_told() -> None:
    body = make_body(seed=1, user="u", temperature=0.5, tools=[TOOL], store=True)
    call = make_call(options={"engine": "openai"})
    request = VendorRequest(PROFILES["openai"], capabilities("openai"), reasons=False)

    expected = json.loads(encode_request(call, body, max_tokens_field="max_completion_tokens"))

    found = request.encode(call, body)
    assert expected == json.loads(found.body)
    assert () == found.ignored


def test_every_vendor_has_a_profile_and_features() -> None:
    assert set(VENDORS) <= PROFILES.keys()
    assert PROFILES.keys() <= BY_ENGINE.keys()
    assert ["openai", "vllm", "sglang"] == [n for n, p in PROFILES.items() if p.is_plain]
    for profile in PROFILES.values():
        assert (profile.takes or frozenset()) <= BEST_EFFORT
        assert profile.base_url.startswith("https://") or "native" == profile.capacity


def test_an_embedding_is_asked_for_with_its_own_fields() -> None:
    body = make_body(input=["a"], dimensions=3, user="u")
    del body["messages"]
    call = make_call(operation=router_pb2.OPERATION_EMBEDDING, is_streaming=False)
    request = VendorRequest(PROFILES["mistral"], capabilities("mistral"), reasons=False)

    found = request.encode(call, body)

    expected = {"model": "upstream-model", "input": ["a"], "output_dimension": 3}
    assert expected == json.loads(found.body)
    assert ("user",) == found.ignored
