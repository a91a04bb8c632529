"""Answers of Converse: any split gives the same, and a stream what the whole answer gives."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.constraints import Constraint, Kind
from services.router.providers.aws.bedrock import BedrockCodec
from services.router.providers.port import Batch, Call, Failure, ProviderError
from services.router.upstream_types import ResponseHead
from tests.fakes.aws_calls import folded, whole
from tests.fakes.bedrock_upstream import Said, Script, text, thought, tool
from tests.fakes.event_stream import event
from tests.fakes.openai_calls import make_call

CODEC = BedrockCodec()
BY_TOOL = Constraint(Kind.JSON_OBJECT, "response_format")
PIECES = st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=3).map(tuple)
ARGUMENTS = st.sampled_from([(), ('{"a"', ":1}"), ("{}",), ('{"ü":"', 'ß"}')])
SAID = st.one_of(
    st.builds(Said, st.just("text"), PIECES),
    st.builds(
        Said, st.just("tool"), ARGUMENTS, id=st.text("abc", min_size=1), name=st.just("look")
    ),
    st.builds(Said, st.just("thought"), PIECES, signature=st.sampled_from(["", "sig="])),
    st.builds(Said, st.just("redacted"), st.just(("c2VjcmV0",))),
)
SCRIPTS = st.builds(
    Script,
    st.lists(SAID, max_size=4).map(tuple),
    st.sampled_from(
        ["end_turn", "max_tokens", "tool_use", "stop_sequence", "guardrail_intervened"]
    ),
    read=st.integers(0, 9),
    has_metadata=st.booleans(),
)


def call(**changes: Any) -> Call:
    return make_call(upstream_model="anthropic.claude-x", **changes)


def fed(pieces: list[bytes], made: Call) -> list[Batch]:
    translator = CODEC.translator(made, {})
    found = [batch for piece in pieces if (batch := translator.feed(piece)) is not None]
    if not translator.is_done:
        found.append(translator.end())
    assert translator.is_done
    assert translator.is_finished
    return found


@given(script=SCRIPTS, sizes=st.lists(st.integers(1, 90), max_size=30))
def test_any_split_gives_what_the_whole_answer_says(script: Script, sizes: list[int]) -> None:
    data, pieces = b"".join(script.messages()), []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]

    streamed = fed([*pieces, data], call())
    plain = CODEC.read(call(is_streaming=False, chunk_head=b""), {}, script.whole())

    assert whole(plain) == folded(streamed)
    assert sum(batch.content_event_count for batch in streamed) >= len(script.said) - sum(
        block.kind == "redacted" for block in script.said
    )
    if script.has_metadata:
        assert plain.finish.usage == streamed[-1].finish.usage


@pytest.mark.parametrize("said", [(), (text("a"), text("b"))])
def test_answer_that_did_not_come_by_its_tool_is_said_as_it_is(said: tuple[Said, ...]) -> None:
    script = Script(said)
    made = call(constraint=BY_TOOL)

    assert folded(fed(script.messages(), made)).get("content", "") == "".join(
        "".join(block.pieces) for block in said
    )


def test_answer_comes_by_its_tool_once() -> None:
    script = Script((tool("a", "give_answer", "{}"), tool("b", "give_answer", "{}")), "tool_use")

    with pytest.raises(ProviderError) as caught:
        fed(script.messages(), call(constraint=BY_TOOL))

    assert Failure.INVALID_RESPONSE is caught.value.failure


@pytest.mark.parametrize(
    ("model", "usage", "want"),
    [
        ("anthropic.claude", (5, 7, 12), (5, 0)),
        ("anthropic.claude", (5, 7, 42, 20, 10), (35, 20)),
        ("anthropic.claude", (5, 7, 12, 20, 10), (35, 20)),
        ("other.model", (50, 7, 57, 20, 10), (50, 20)),
        ("openai.gpt-oss", (4995, 19, 10007, 0, 4993), (4995, 0)),
        ("openai.gpt-oss", (2, 19, 5014, 0, 4993), (4995, 0)),
    ],
)
def test_total_tells_whether_the_cache_is_counted(
    model: str, usage: tuple[int, ...], want: tuple[int, int]
) -> None:
    names = ("inputTokens", "outputTokens", "totalTokens")
    cache = ("cacheReadInputTokens", "cacheWriteInputTokens")
    answer = json.loads(Script().whole())
    answer["usage"] = dict(zip((*names, *cache), usage, strict=False))
    made = call()._replace(is_streaming=False, upstream_model=model)

    finish = CODEC.read(made, {}, json.dumps(answer).encode()).finish

    assert want == (finish.usage.prompt_token_count, finish.usage.cached_prompt_token_count)
    assert usage[1] == finish.usage.completion_token_count
    assert sum((want[0], usage[1])) == json.loads(finish.usage_json)["total_tokens"]


@pytest.mark.parametrize("reason", ["malformed_tool_use", "malformed_model_output", "tired"])
def test_reason_that_is_no_end_is_refused(reason: str) -> None:
    script = Script(stop_reason=reason)

    for read in (
        lambda: fed(script.messages(), call()),
        lambda: CODEC.read(call(is_streaming=False), {}, script.whole()),
    ):
        with pytest.raises(ProviderError) as caught:
            read()
        assert Failure.INVALID_RESPONSE is caught.value.failure


DELTA = b'{"contentBlockIndex":0,"delta":%b}'


@pytest.mark.parametrize(
    "message",
    [
        event("contentBlockDelta", b"{oops"),
        event("contentBlockDelta", DELTA % b"{}"),
        event("contentBlockDelta", DELTA % b'{"toolUse":{"input":"{}"}}'),
        event("contentBlockStart", b'{"contentBlockIndex":0,"start":{"image":{"format":"png"}}}'),
        event("metadata", b'{"usage":{"inputTokens":-1,"outputTokens":1,"totalTokens":0}}')
        + event("messageStop", b'{"stopReason":"end_turn"}'),
    ],
)
def test_event_that_makes_no_sense_is_refused(message: bytes) -> None:
    with pytest.raises(ProviderError) as caught:
        fed([message], call())

    assert Failure.INVALID_RESPONSE is caught.value.failure


@pytest.mark.parametrize(
    "answer",
    [b"", b"[]", b"{oops", b'{"output":{"message":{"content":[{"video":{}}]}},"stopReason":"x"}'],
)
def test_whole_answer_that_makes_no_sense_is_refused(answer: bytes) -> None:
    with pytest.raises(ProviderError) as caught:
        CODEC.read(call(is_streaming=False), {}, answer)

    assert Failure.INVALID_RESPONSE is caught.value.failure


def test_event_that_is_not_known_is_passed_over() -> None:
    frames = Script().messages()
    frames.insert(2, event("somethingNew", b"{}"))

    assert "Hello wörld" == folded(fed(frames, call()))["content"]


def test_answer_without_an_end_is_incomplete() -> None:
    for count in range(1, 6):
        with pytest.raises(ProviderError) as caught:
            fed(Script().messages()[:count], call())
        assert Failure.INCOMPLETE is caught.value.failure


NAMES = [
    "messageStart",
    "contentBlockStart",
    "contentBlockDelta",
    "contentBlockStop",
    "messageStop",
    "metadata",
]
MEMBERS = [
    *("contentBlockIndex", "delta", "start", "text", "toolUse", "input", "stopReason", "usage"),
    *("reasoningContent", "signature", "redactedContent", "toolUseId", "name"),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=4)
    ),
    max_leaves=8,
)
EVENTS = st.tuples(st.sampled_from(NAMES), JSON.map(json.dumps) | st.text(max_size=9))


@given(st.lists(EVENTS, max_size=5))
def test_no_stream_whatsoever_breaks_the_reader(messages: list[tuple[str, str]]) -> None:
    translator = CODEC.translator(call(), {})

    with suppress(ProviderError):
        for name, payload in messages:
            translator.feed(event(name, payload.encode()))


@given(st.binary(max_size=60), st.sampled_from([b"", b"ValidationException", b"\xff:#"]))
def test_no_error_whatsoever_breaks_the_reader(body: bytes, name: bytes) -> None:
    head = ResponseHead(400, {b"x-amzn-errortype": name})

    assert CODEC.refusal(head, body, now_unix_s=0.0).status == 400


def test_thought_is_said_and_its_signature_kept() -> None:
    script = Script((thought("h", "m", signature="s="), text("yes")))

    message = folded(fed(script.messages(), call()))

    assert "hm" == message["reasoning_content"]
    detail: dict[str, object] = {"type": "reasoning.text", "text": "hm", "signature": "s="}
    detail |= {"format": "anthropic-claude-v1", "index": 0}
    assert [detail] == message["reasoning_details"]
