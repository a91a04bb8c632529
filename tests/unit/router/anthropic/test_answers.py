"""Answers of the Messages API as OpenAI's, streamed and whole."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from services.router.providers.anthropic.codec import AnthropicCodec
from services.router.providers.openai.forward import EVENT_BYTES_MAX
from services.router.providers.port import Batch, Failure, ProviderError
from tests.fakes.anthropic_script import (
    Say,
    Script,
    dumps,
    events_of,
    framed,
    message_of,
    numbered,
    redacted,
    text,
    thinking,
    tool,
)
from tests.fixtures.anthropic_calls import attempt, chunks_of, folded, plain
from tests.fixtures.strict import strictly
from turnpike.type.v1 import usage_pb2

CODEC = AnthropicCodec()
STREAMED, BODY = attempt()
PLAIN, _ = attempt(is_streaming=False)
EVERYTHING = (
    thinking("Let me", " see"),
    redacted("sealed"),
    text("I look", " twice: "),
    tool("toolu_1", "look", '{"at":', '"sea"}'),
    tool("toolu_2", "listen"),
)


def sse(script: Script) -> bytes:
    return b"".join(framed(event, script.line) for event in events_of(script))


def streamed(script: Script, size: int = 0) -> list[Batch]:
    """Return the batches of a stream that comes in reads of so many bytes."""
    data = sse(script)
    return fed([data[at : at + (size or 40)] for at in range(0, len(data), size or 40)])


def fed(reads: list[bytes]) -> list[Batch]:
    translator = CODEC.translator(STREAMED, BODY)
    batches: list[Batch] = []
    for read in reads:
        batch = translator.feed(read)
        if batch is not None:
            batches.append(batch)
        if translator.is_done:
            return batches
    batches.append(translator.end())
    return batches


def whole(script: Script) -> Batch:
    return CODEC.read(PLAIN, BODY, dumps(message_of(script)))


def failure(script: Script, *, is_whole: bool = False) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        whole(script) if is_whole else streamed(script)
    assert "secret" not in caught.value.message
    return caught.value


def counted(usage: usage_pb2.TokenUsage) -> tuple[int, ...]:
    return (
        usage.prompt_token_count,
        usage.completion_token_count,
        usage.cached_prompt_token_count,
        usage.reasoning_token_count,
    )


def test_every_kind_of_block_has_its_place() -> None:
    script = Script(says=EVERYTHING, stop_reason="tool_use")
    batches = streamed(script)
    for chunk in chunks_of(batches):
        strictly(ChatCompletionChunk, chunk)
    completion = json.loads(whole(script).completion)
    strictly(ChatCompletion, completion)

    message = folded(batches)
    ours = {"format": "anthropic-claude-v1"}
    assert message == plain(whole(script))
    assert message["content"] == "I look twice: "
    assert message["reasoning_content"] == "Let me see"
    assert message["reasoning_details"] == [
        {"type": "reasoning.text", "text": "Let me see", "signature": "sig", **ours, "index": 0},
        {"type": "reasoning.encrypted", "data": "sealed", **ours, "index": 1},
    ]
    assert [(c["id"], c["function"]) for c in message["tool_calls"]] == [
        ("toolu_1", {"name": "look", "arguments": '{"at":"sea"}'}),
        ("toolu_2", {"name": "listen", "arguments": "{}"}),
    ]
    assert batches[-1].finish.finish_reason == "tool_calls"


def test_blocks_that_grow_at_the_same_time_stay_apart() -> None:
    says = tuple(tool(f"toolu_{n}", f"tool{n}", f'{{"n":{n}', ",", '"x":1}') for n in range(3))

    message = folded(streamed(Script(says=says, stop_reason="tool_use", is_interleaved=True)))

    arguments = [json.loads(c["function"]["arguments"]) for c in message["tool_calls"]]
    assert arguments == [{"n": n, "x": 1} for n in range(3)]


PIECES = st.lists(st.text(min_size=1, max_size=4), max_size=3).map(tuple)
SAYS = st.lists(
    st.one_of(
        st.builds(lambda p: text(*p), PIECES),
        st.builds(lambda p: thinking(*p), PIECES),
        st.builds(redacted, st.text(min_size=1, max_size=4)),
        st.builds(
            lambda n, v: tool(f"toolu_{n}", "look", *dumps({"v": v}).decode()),
            st.integers(0, 9),
            st.text(max_size=3),
        ),
    ),
    max_size=5,
).map(tuple)


@given(SAYS, st.integers(1, 90), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_any_split_and_the_whole_answer_say_the_same(
    says: tuple[Say, ...], size: int, line: str, is_interleaved: bool
) -> None:
    # Two texts at the same time have no order that both forms could keep to.
    kinds = [say.kind for say in says if say.kind in ("text", "thinking")]
    is_mixed = is_interleaved and len(set(kinds)) == len(kinds)
    script = Script(says=says, line=line, is_interleaved=is_mixed, cache_read=5)

    batches, other = streamed(script, size), whole(script)

    message = folded(batches)
    assert {**message, "content": message.get("content", "")} == plain(other)
    assert batches[-1].finish.usage == other.finish.usage
    assert batches[-1].finish.finish_reason == other.finish.finish_reason


def test_the_prompts_count_includes_what_was_cached() -> None:
    script = Script(
        says=(thinking("a", "b"), text("c")), input_tokens=10, cache_read=100, cache_written=20
    )

    for finish in (streamed(script)[-1].finish, whole(script).finish):
        assert counted(finish.usage) == (130, 4, 100, 2)
        assert finish.usage.source == usage_pb2.USAGE_SOURCE_UPSTREAM
        assert json.loads(finish.usage_json) == {
            "prompt_tokens": 130,
            "completion_tokens": 4,
            "total_tokens": 134,
            "prompt_tokens_details": {"cached_tokens": 100, "cache_creation_tokens": 20},
            "completion_tokens_details": {"reasoning_tokens": 2},
        }


def test_running_totals_are_assigned_and_go_with_what_they_cover() -> None:
    says = (text("a", "b"), text("c"))
    batches = streamed(Script(says=says, usage="running"), 10_000_000)
    slow = streamed(Script(says=says, usage="running"), 1)

    assert counted(batches[-1].finish.usage)[:2] == (12, 4)
    completions = [b.running_usage.completion_token_count for b in slow if b.sse]
    assert completions == sorted(completions)
    assert counted(slow[-1].finish.usage)[:2] == (12, 4)


def test_a_cut_answer_has_the_prompts_count_and_no_more_than_was_made() -> None:
    script = Script(says=(numbered(5),), cache_read=3)
    translator = CODEC.translator(STREAMED, BODY)
    for event in events_of(script)[:6]:
        batch = translator.feed(framed(event))

    assert batch is not None
    assert counted(batch.running_usage)[:2] == (15, 3)
    assert batch.running_usage.source == usage_pb2.USAGE_SOURCE_ESTIMATED
    assert translator.has_content
    assert not translator.is_finished


@pytest.mark.parametrize(
    ("stop_reason", "expected"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("tool_use", "stop"),
    ],
)
def test_reasons_have_openais_names(stop_reason: str, expected: str) -> None:
    script = Script(stop_reason=stop_reason)

    assert streamed(script)[-1].finish.finish_reason == expected
    assert whole(script).finish.finish_reason == expected


@pytest.mark.parametrize("is_whole", [True, False])
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"stop_reason": "pause_turn"}, Failure.INVALID_RESPONSE),
        ({"stop_reason": "tired"}, Failure.INVALID_RESPONSE),
        ({"usage": "negative"}, Failure.INVALID_RESPONSE),
        ({"usage": "absurd"}, Failure.INVALID_RESPONSE),
        ({"input_tokens": -4, "cache_read": 9}, Failure.INVALID_RESPONSE),
        ({"says": (tool("a", "", "{}"),)}, Failure.INVALID_RESPONSE),
        ({"says": (Say("server_tool_use", ("x",)),)}, Failure.INVALID_RESPONSE),
    ],
)
def test_what_makes_no_sense_is_refused(
    changes: dict[str, Any], expected: Failure, is_whole: bool
) -> None:
    assert failure(Script(**changes), is_whole=is_whole).failure is expected


def test_an_answer_without_counts_is_estimated() -> None:
    finish = streamed(Script(says=(numbered(9),), usage="never"))[-1].finish
    bare = CODEC.read(PLAIN, BODY, dumps({**message_of(Script()), "usage": None})).finish

    assert finish.usage.source == bare.usage.source == usage_pb2.USAGE_SOURCE_ESTIMATED
    assert finish.usage.completion_token_count == 9


def test_a_stream_that_said_why_it_stopped_is_finished() -> None:
    for script in (Script(has_message_stop=False), Script(has_message_stop=False, pings=0)):
        finish = streamed(script)[-1].finish
        assert (finish.finish_reason, finish.usage.completion_token_count) == ("stop", 3)
    cut = sse(Script(has_message_stop=False)).rstrip(b"\n")
    assert fed([cut])[-1].finish.finish_reason == "stop"


@pytest.mark.parametrize("rest", [b"", b"event: mess", b'data: {"type":"message_d'])
@pytest.mark.parametrize("events", [0, 1, 3, 5, 6])
def test_a_stream_that_just_ends_is_incomplete(events: int, rest: bytes) -> None:
    data = b"".join(map(framed, events_of(Script())[:events]))

    with pytest.raises(ProviderError) as caught:
        fed([data, rest])

    assert caught.value.failure is Failure.INCOMPLETE


def test_an_event_that_never_ends_is_refused() -> None:
    with pytest.raises(ProviderError) as caught:
        fed([b"data: " + b"x" * EVENT_BYTES_MAX] * 2)

    assert caught.value.failure is Failure.INVALID_RESPONSE


def test_a_start_without_counts_and_an_answer_that_is_no_message() -> None:
    events = [{"type": "message_start", "message": {}}, *events_of(Script())[1:]]

    assert fed([framed(event) for event in events])[-1].finish.usage.prompt_token_count == 12
    with pytest.raises(ProviderError):
        CODEC.read(PLAIN, BODY, dumps({**message_of(Script()), "stop_reason": None}))


def test_an_error_takes_the_place_of_any_event() -> None:
    before = failure(Script(error="overloaded_error", error_after=0))
    amid = failure(Script(error="api_error", error_after=4))

    assert (before.failure, amid.failure) == (Failure.UNAVAILABLE,) * 2
    error = {"type": "error", "error": {"type": "rate_limit_error", "message": "secret"}}
    with pytest.raises(ProviderError) as caught:
        CODEC.read(PLAIN, BODY, dumps(error))
    assert caught.value.failure is Failure.RATE_LIMITED


def test_what_is_new_is_passed_over() -> None:
    events = events_of(Script())
    delta = {"type": "citations_delta", "citation": {"a": 1}}
    events[3:3] = [
        {"type": "weather_report", "index": 0},
        {"type": "content_block_delta", "index": 0, "delta": delta},
    ]

    assert folded(fed([framed(event) for event in events])) == {"content": "Hello there"}


def test_what_comes_behind_the_end_changes_nothing() -> None:
    assert folded(fed([sse(Script()) + b"data: {oops\n\n"])) == {"content": "Hello there"}


SENSELESS = [
    {"type": "content_block_stop", "index": 7},
    {"type": "content_block_delta", "index": 7, "delta": {"type": "text_delta", "text": "x"}},
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "thinking_delta", "thinking": "x"},
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": "zero", "delta": {"type": "text_delta"}},
]


@pytest.mark.parametrize("event", SENSELESS)
def test_blocks_that_make_no_sense_are_refused(event: dict[str, Any]) -> None:
    events = events_of(Script())
    events.insert(3, event)

    with pytest.raises(ProviderError) as caught:
        fed([framed(each) for each in events])

    assert caught.value.failure is Failure.INVALID_RESPONSE


@given(st.lists(st.binary(max_size=40), max_size=5), st.binary(max_size=80))
def test_junk_is_refused_and_never_crashes(reads: list[bytes], answer: bytes) -> None:
    framed_reads = [b"data: " + read + b"\n\n" for read in reads]
    with pytest.raises(ProviderError):
        fed(framed_reads)
    with pytest.raises(ProviderError):
        CODEC.read(PLAIN, BODY, answer)


def test_an_input_that_is_no_utf8_is_refused() -> None:
    answer = dumps(
        message_of(Script(says=(tool("a", "look", '{"x":"e"}'),), stop_reason="tool_use"))
    )

    with pytest.raises(ProviderError):
        CODEC.read(PLAIN, BODY, answer.replace(b'"e"', b'"\xe9"'))
