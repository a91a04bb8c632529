"""Chat chunks become Responses events: which, in what order, and whatever the chunks look like."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.openai.dialect import DIALECTS, OPENAI
from gateway.responses.answer import whole_response
from gateway.responses.stream import OUTPUT_CHARS_MAX, ResponseStream
from kit.errors import Reason, TurnpikeError
from tests.fakes.openai_script import joined
from tests.fixtures.responses import Follower, ask, followed, response_events
from tests.unit.gateway.responses.chunks import REQUEST_ID, chunk, completion, finish

ROLE = {"role": "assistant", "content": ""}
LOGPROB = {
    "token": "Hi",
    "logprob": -0.5,
    "bytes": [72, 105],
    "top_logprobs": [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105]}],
}
SPOKEN = {"content": "Hi", "logprobs": {"content": [LOGPROB], "refusal": None}}


def fragment(index: int, arguments: str = "", **first: str) -> dict[str, Any]:
    function = {"arguments": arguments}
    call: dict[str, Any] = {"index": index, "function": function}
    if first:
        call |= {"id": first["id"], "type": "function"}
        function["name"] = first["name"]
    return {"tool_calls": [call]}


WEATHER = fragment(0, id="call_a", name="weather")
CLOCK = fragment(1, id="call_b", name="clock")
ANSWERS: dict[str, list[dict[str, Any]]] = {
    "text": [ROLE, {"content": "Hel"}, {"content": "lo"}],
    "nothing": [ROLE],
    "reasoning, then text": [{"reasoning_content": "Hm"}, {"reasoning_content": "m"}, SPOKEN],
    "reasoning by its other name": [{"reasoning": "Hm"}, {"content": "Hi"}],
    "reasoning alone": [{"reasoning_content": "Hm"}],
    "refusal": [{"refusal": "No"}, {"refusal": "."}],
    "text, then refusal": [{"content": "Well,"}, {"refusal": "no."}],
    "logprobs": [SPOKEN, SPOKEN],
    "one call": [WEATHER, fragment(0, '{"city":'), fragment(0, '"Oslo"}')],
    "call without arguments": [WEATHER],
    "text, then parallel calls": [
        {"content": "Let me see."},
        WEATHER,
        fragment(0, '{"city":"Oslo"}'),
        CLOCK,
        fragment(1, "{}"),
    ],
    "parallel calls that come mixed": [
        WEATHER,
        CLOCK,
        fragment(0, '{"a"'),
        fragment(1, "{"),
        fragment(0, ":1}"),
        fragment(1, "}"),
    ],
    "reasoning, text and a call": [{"reasoning_content": "Hm"}, {"content": "So"}, WEATHER],
}


def streamed(deltas: list[dict[str, Any]], *, reason: str = "stop", **asked: Any) -> bytes:
    call, request = ask(stream=True, **asked)
    stream = ResponseStream(call, request, REQUEST_ID)
    sse = b"".join(stream.feed(chunk(delta)) for delta in deltas)
    return sse + stream.end(b"", finish(reason))


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events[2:-1]]


@pytest.mark.parametrize("name", ANSWERS)
def test_stream_and_whole_answer_say_the_same_by_the_official_types(name: str) -> None:
    call, request = ask()
    message = joined(tuple(ANSWERS[name]))
    message.pop("role", None)

    response = followed(response_events(streamed(ANSWERS[name])))
    whole = json.loads(whole_response(completion(message), call, request, REQUEST_ID))

    assert whole == response


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("text", ["message:Hello"]),
        ("nothing", ["message:"]),
        ("reasoning, then text", ["reasoning:Hmm", "message:Hi"]),
        ("reasoning by its other name", ["reasoning:Hm", "message:Hi"]),
        ("reasoning alone", ["reasoning:Hm"]),
        ("refusal", ["message:No."]),
        ("text, then refusal", ["message:Well,no."]),
        ("one call", ['call_a:{"city":"Oslo"}']),
        ("call without arguments", ["call_a:"]),
        ("parallel calls that come mixed", ['call_a:{"a":1}', "call_b:{}"]),
        ("reasoning, text and a call", ["reasoning:Hm", "message:So", "call_a:"]),
    ],
)
def test_items_hold_what_was_said(name: str, expected: list[str]) -> None:
    def shown(item: dict[str, Any]) -> str:
        if item["type"] == "function_call":
            return f"{item['call_id']}:{item['arguments']}"
        texts = [part.get("text") or part.get("refusal", "") for part in item["content"]]
        return f"{item['type']}:{''.join(texts)}"

    response = followed(response_events(streamed(ANSWERS[name])))

    assert expected == [shown(item) for item in response["output"]]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("text", ["output_item.added", "content_part.added", "output_text.delta",
                  "output_text.delta", "output_text.done", "content_part.done",
                  "output_item.done"]),
        ("reasoning, then text", [
            "output_item.added", "content_part.added", "reasoning_text.delta",
            "reasoning_text.delta", "reasoning_text.done", "content_part.done", "output_item.done",
            "output_item.added", "content_part.added", "output_text.delta", "output_text.done",
            "content_part.done", "output_item.done"]),
        ("text, then refusal", [
            "output_item.added", "content_part.added", "output_text.delta", "output_text.done",
            "content_part.done", "content_part.added", "refusal.delta", "refusal.done",
            "content_part.done", "output_item.done"]),
        ("parallel calls that come mixed", [
            "output_item.added", "output_item.added",
            *["function_call_arguments.delta"] * 4,
            "function_call_arguments.done", "output_item.done",
            "function_call_arguments.done", "output_item.done"]),
    ],
)  # fmt: skip
def test_events_come_in_the_official_order(name: str, expected: list[str]) -> None:
    assert expected == kinds(response_events(streamed(ANSWERS[name])))


@pytest.mark.parametrize("name", ANSWERS)
@given(data=st.data())
def test_events_do_not_depend_on_how_chunks_are_batched(name: str, data: st.DataObject) -> None:
    chunks = [chunk(delta) for delta in ANSWERS[name]]
    cut = data.draw(st.lists(st.integers(0, len(chunks)), max_size=4).map(sorted))
    call, request = ask(stream=True)
    stream = ResponseStream(call, request, REQUEST_ID)

    edges = [0, *cut]
    parts = [b"".join(chunks[a:b]) for a, b in zip(edges, cut, strict=False)]
    rest = b"".join(chunks[edges[-1] :])
    found = b"".join(stream.feed(part) for part in parts) + stream.end(rest, finish())

    assert streamed(ANSWERS[name]) == found


@given(
    st.lists(
        st.one_of(
            st.fixed_dictionaries({"content": st.text(max_size=3)}),
            st.fixed_dictionaries({"reasoning_content": st.text(max_size=3)}),
            st.fixed_dictionaries({"refusal": st.text(max_size=3)}),
            st.builds(fragment, st.integers(0, 2), st.text(max_size=3)),
            st.builds(fragment, st.integers(0, 2), id=st.just("call_x"), name=st.just("f")),
        ),
        max_size=12,
    ),
    st.sampled_from(["stop", "length", "tool_calls", "content_filter"]),
)
def test_any_run_of_deltas_makes_events_that_agree(
    deltas: list[dict[str, Any]], reason: str
) -> None:
    response = followed(response_events(streamed(deltas, reason=reason)))

    items = [item["type"] for item in response["output"]]
    said = "".join(
        part.get("text") or part.get("refusal", "")
        for item in response["output"]
        for part in item.get("content", ())
    )
    assert items
    texts = [d.get("content", d.get("reasoning_content", d.get("refusal", ""))) for d in deltas]
    assert "".join(texts) == said
    arguments = sum(len(item["arguments"]) for item in response["output"] if "call_id" in item)
    sent = sum(
        len(d["tool_calls"][0]["function"]["arguments"]) for d in deltas if "tool_calls" in d
    )
    assert sent == arguments


@pytest.mark.parametrize(
    ("reason", "status", "details"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", {"reason": "content_filter"}),
    ],
)
def test_why_the_answer_ended_is_told(reason: str, status: str, details: Any) -> None:
    events = response_events(streamed(ANSWERS["text"], reason=reason))

    response = followed(events)
    assert f"response.{status}" == events[-1]["type"]
    assert (status, details) == (response["status"], response["incomplete_details"])
    assert status == response["output"][-1]["status"]


def test_usage_comes_with_the_last_event_and_only_there() -> None:
    events = response_events(streamed(ANSWERS["text"]))

    assert [None, None] == [event["response"]["usage"] for event in events[:2]]
    assert {
        "input_tokens": 12,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 19,
    } == events[-1]["response"]["usage"]


def test_logprobs_are_where_the_text_is() -> None:
    events = response_events(streamed(ANSWERS["logprobs"]))

    deltas = [event for event in events if event["type"].endswith("text.delta")]
    brief = {k: v for k, v in LOGPROB.items() if k != "bytes"} | {
        "top_logprobs": [{"token": "Hi", "logprob": -0.5}]
    }
    assert [[brief]] * 2 == [event["logprobs"] for event in deltas]
    assert [LOGPROB] * 2 == followed(events)["output"][0]["content"][0]["logprobs"]


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        ({"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}, ["f", "{}"]),
        ({"tool_calls": [{"id": "call_9", "function": {"name": "f", "arguments": {"a": 1}}}]},
         ["f", '{"a":1}']),
        ({"tool_calls": [{"index": 0, "id": "call_9", "function": {"arguments": "{}"}}]},
         ["", "{}"]),
    ],
)  # fmt: skip
def test_odd_calls_of_an_upstream_are_passed_on(delta: Any, expected: list[str]) -> None:
    (call,) = followed(response_events(streamed([delta])))["output"]

    assert expected == [call["name"], call["arguments"]]
    assert call["call_id"].startswith("call_")


@pytest.mark.parametrize(
    "delta",
    [
        {"content": 5},
        {"content": None, "tool_calls": "x"},
        {"tool_calls": [5]},
        {"reasoning_content": {"a": 1}, "tier": "gold"},
    ],
)
def test_junk_in_a_delta_is_nothing(delta: Any) -> None:
    response = followed(response_events(streamed([delta, {"content": "Hi"}])))

    assert ["Hi"] == [part["text"] for part in response["output"][0]["content"]]
    assert None is response["service_tier"]


def test_texts_of_content_in_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "other"}, {"type": "text", "text": "b"}]

    response = followed(response_events(streamed([{"content": parts, "tier": "flex"}])))

    assert "ab" == response["output"][0]["content"][0]["text"]
    assert "flex" == response["service_tier"]


def test_half_a_surrogate_pair_breaks_nothing() -> None:
    call, request = ask(stream=True)
    stream = ResponseStream(call, request, REQUEST_ID)
    half = chunk({"content": "a"}).replace(b'"a"', b'"a\\ud83d"')

    sse = stream.feed(half) + stream.end(b"", finish())
    whole = completion({"content": "a"}).replace(b'"a"', b'"a\\ud83d"')

    assert "a?" == followed(response_events(sse))["output"][0]["content"][0]["text"]
    body = json.loads(whole_response(whole, *ask(), REQUEST_ID))
    assert "a?" == body["output"][0]["content"][0]["text"]


@pytest.mark.parametrize("huge", [b"9" * 5000, b"1e999", b"18446744073709551616"])
def test_number_that_nobody_can_read_does_not_cost_the_rest(huge: bytes) -> None:
    whole = completion({"content": "a", "reasoning": 0}).replace(
        b'"reasoning": 0', b'"reasoning": ' + huge
    )

    assert huge in whole
    body = json.loads(whole_response(whole, *ask(), REQUEST_ID))
    assert ["a"] == [part["text"] for item in body["output"] for part in item["content"]]


def test_whole_answer_that_is_none_is_the_upstreams_fault() -> None:
    for junk in (b"{", b"[]", b"[" * 100_000):
        with pytest.raises(TurnpikeError) as caught:
            whole_response(junk, *ask(), REQUEST_ID)
        assert Reason.UPSTREAM_INVALID_RESPONSE is caught.value.reason


@pytest.mark.parametrize(
    "junk", [b"data: {oops\n\n", b'data: {"choices":[]}\n\n', b"data: [1]\n\n"]
)
def test_what_is_no_chunk_is_the_upstreams_fault(junk: bytes) -> None:
    call, request = ask(stream=True)
    stream = ResponseStream(call, request, REQUEST_ID)
    stream.feed(chunk({"content": "Hi"}))

    with pytest.raises(TurnpikeError) as caught:
        stream.feed(junk)

    assert Reason.UPSTREAM_INVALID_RESPONSE is caught.value.reason


def test_answer_that_has_no_end_is_given_up() -> None:
    call, request = ask(stream=True)
    stream = ResponseStream(call, request, REQUEST_ID)
    long = chunk({"content": "x" * (OUTPUT_CHARS_MAX // 4)})
    for _ in range(4):
        stream.feed(long)

    with pytest.raises(TurnpikeError) as caught:
        stream.feed(long)

    assert Reason.UPSTREAM_INVALID_RESPONSE is caught.value.reason


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (Reason.UPSTREAM_INCOMPLETE, "server_error"),
        (Reason.TIMEOUT, "server_error"),
        (Reason.RATE_LIMIT_EXCEEDED, "rate_limit_exceeded"),
        (Reason.KEY_REVOKED, "invalid_prompt"),
    ],
)
@pytest.mark.parametrize("name", ["reasoning, text and a call", "logprobs"])
def test_broken_stream_fails_with_what_was_said(name: str, reason: Reason, code: str) -> None:
    call, request = ask(stream=True)
    stream = ResponseStream(call, request, REQUEST_ID)
    sse = b"".join(stream.feed(chunk(delta)) for delta in ANSWERS[name])

    events = response_events(sse + stream.fail(TurnpikeError(reason, "It broke."), OPENAI))

    failed, error = events[-2:]
    assert ["response.failed", "error"] == [failed["type"], error["type"]]
    assert ("failed", None) == (failed["response"]["status"], failed["response"]["usage"])
    assert {"code": code, "message": "It broke."} == failed["response"]["error"]
    output = Follower(events).output
    assert len(output) == len(failed["response"]["output"])
    assert "incomplete" == failed["response"]["output"][-1]["status"]
    assert (reason.lower(), "It broke.", None) == (error["code"], error["message"], error["param"])
    assert REQUEST_ID == error["error"]["request_id"]


def test_code_of_a_broken_stream_is_text_in_every_dialect() -> None:
    for dialect in DIALECTS.values():
        call, request = ask(stream=True)
        stream = ResponseStream(call, request, REQUEST_ID)
        begun = stream.feed(chunk({"content": "Hi"}))

        sse = stream.fail(TurnpikeError(Reason.TIMEOUT, "It is late."), dialect)

        assert "timeout" == response_events(begun + sse)[-1]["code"]
