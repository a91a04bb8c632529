"""What chat chunks become as the events of a streamed message.

Every event is one of the SDK's own, to the letter, and together they say what the same words say
as a whole answer.
"""

import itertools
import json
from typing import Any

import pytest
from anthropic.types import RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from gateway.anthropic.answer import message
from gateway.anthropic.stream import HELD_CHARS_MAX, MessageStream
from kit.errors import Reason, TurnpikeError
from tests.unit.gateway.test_messages_answer import assert_nothing_beyond, completion
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2

EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
HEAD = b'{"id":"chatcmpl-r1","object":"chat.completion.chunk","created":1,"model":"acme/small",'
USAGE = usage_pb2.TokenUsage(
    prompt_token_count=12, completion_token_count=5, cached_prompt_token_count=4
)
ROLE = {"role": "assistant", "content": ""}
ESTIMATE = 31


def chunk(delta: dict[str, Any], index: int = 0) -> bytes:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
    return b'data: %b"choices":%b}\n\n' % (HEAD, json.dumps([choice]).encode())


def finish(reason: str = "stop", **more: Any) -> router_pb2.Finish:
    choice = {"index": 0, "delta": {}, "finish_reason": reason, **more}
    return router_pb2.Finish(
        chunk_head=HEAD,
        finish_chunks=[b'%b"choices":%b}' % (HEAD, json.dumps([choice]).encode())],
        usage=USAGE,
        finish_reason=reason,
    )


def stream(stop_sequences: list[str] | None = None) -> MessageStream:
    return MessageStream("r1", ESTIMATE, stop_sequences or [])


def spelled(*deltas: dict[str, Any], end: router_pb2.Finish | None = None) -> list[dict[str, Any]]:
    """Return the events for these deltas, in one feed, and their end."""
    answer = stream(["END"])
    data = answer.feed(b"".join(map(chunk, (ROLE, *deltas)))) + answer.end(b"", end or finish())
    return events_of(data)


def events_of(data: bytes) -> list[dict[str, Any]]:
    """Return the events, checked against the SDK's types: nothing wrong, nothing beyond them."""
    blocks = data.decode().split("\n\n")
    assert "" == blocks.pop()
    found = []
    for block in blocks:
        name, body = block.split("\n")
        event = json.loads(body.removeprefix("data: "))
        assert f"event: {event['type']}" == name
        assert_nothing_beyond(EVENT.validate_python(event, strict=True))
        found.append(event)
    return found


def shape(events: list[dict[str, Any]]) -> list[str]:
    """Return each event in few letters: `1+tool_use`, `1 ...` for its deltas, `1-`."""
    letters = []
    for event in events:
        at = event.get("index")
        if event["type"] == "content_block_start":
            letters.append(f"{at}+{event['content_block']['type']}")
        elif event["type"] == "content_block_delta":
            delta = dict(event["delta"])
            del delta["type"]
            ((_, value),) = delta.items()
            letters.append(f"{at} {value}")
        elif event["type"] == "content_block_stop":
            letters.append(f"{at}-")
    return letters


def put_together(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the content blocks that the events add up to; each ends before the next begins."""
    blocks: list[dict[str, Any]] = []
    given = ""
    for event in events:
        if event["type"] == "content_block_start":
            assert len(blocks) == event["index"]
            blocks.append(event["content_block"])
            given = ""
        elif event["type"] == "content_block_delta":
            assert len(blocks) - 1 == event["index"]
            kind = event["delta"]["type"].removesuffix("_delta")
            if kind == "input_json":
                given += event["delta"]["partial_json"]
            else:
                blocks[-1][kind] += event["delta"][kind]
        elif event["type"] == "content_block_stop" and given:
            blocks[-1]["input"] = json.loads(given)
            given = ""
    return blocks


def piece(index: int, arguments: str | None = None, **more: Any) -> dict[str, Any]:
    function: dict[str, Any] = {} if arguments is None else {"arguments": arguments}
    if "name" in more:
        function["name"] = more.pop("name")
    return {"tool_calls": [{"index": index, "function": function, **more}]}


def first(index: int, name: str, arguments: str | None = "") -> dict[str, Any]:
    return piece(index, arguments, name=name, id=f"call_{index}", type="function")


def test_golden_stream_of_text() -> None:
    expected = [
        (
            "message_start",
            '"message":{"id":"msg_r1","type":"message","role":"assistant","model":"acme/small",'
            '"content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":31,'
            '"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}',
        ),
        ("content_block_start", '"index":0,"content_block":{"type":"text","text":""}'),
        ("content_block_delta", '"index":0,"delta":{"type":"text_delta","text":"Grüß "}'),
        ("content_block_delta", '"index":0,"delta":{"type":"text_delta","text":"\\"dich\\""}'),
        ("content_block_stop", '"index":0'),
        (
            "message_delta",
            '"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"input_tokens":8,'
            '"cache_creation_input_tokens":0,"cache_read_input_tokens":4,"output_tokens":5}',
        ),
    ]
    wanted = "".join(f'event: {n}\ndata: {{"type":"{n}",{rest}}}\n\n' for n, rest in expected)
    wanted += 'event: message_stop\ndata: {"type":"message_stop"}\n\n'

    answer = stream()
    data = answer.feed(chunk(ROLE) + chunk({"content": "Grüß "}))
    data += answer.end(chunk({"content": '"dich"'}), finish())

    assert wanted == data.decode()


SHAPES: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "nothing": ([], []),
    "empty pieces": ([{"content": ""}, {"content": None}, {}], []),
    "A9 reasoning, then text": (
        [{"reasoning_content": "Hm"}, {"reasoning_content": "."}, {"content": "Yes"}],
        ["0+thinking", "0 Hm", "0 .", "0-", "1+text", "1 Yes", "1-"],
    ),
    "reasoning and text in one chunk": (
        [{"reasoning_content": "Hm", "content": "Yes"}],
        ["0+thinking", "0 Hm", "0-", "1+text", "1 Yes", "1-"],
    ),
    "refusal": ([{"refusal": "No."}], ["0+text", "0 No.", "0-"]),
    "5.7 one call": (
        [first(0, "a"), piece(0, '{"x"'), piece(0, ":1}")],
        ["0+tool_use", '0 {"x"', "0 :1}", "0-"],
    ),
    "5.7 text before and after a call": (
        [{"content": "So"}, first(0, "a", "{}"), {"content": "Then"}, first(1, "b", "{}")],
        ["0+text", "0 So", "0-", "1+tool_use", "1 {}", "1-", "2+text", "2 Then", "2-",
         "3+tool_use", "3 {}", "3-"],
    ),
    "5.7 parallel calls have a block each": (
        [first(0, "a"), piece(0, "{}"), first(1, "b"), piece(1, "{}"), first(2, "c"),
         piece(2, '{"y":2}')],
        ["0+tool_use", "0 {}", "0-", "1+tool_use", "1 {}", "1-", "2+tool_use", '2 {"y":2}', "2-"],
    ),
    "5.7 calls whose pieces come mixed": (
        [first(0, "a"), first(1, "b"), piece(1, '{"y":'), piece(0, '{"x":'), piece(1, "2}"),
         piece(0, "1}")],
        ["0+tool_use", '0 {"x":', "0 1}", "0-", "1+tool_use", '1 {"y":2}', "1-"],
    ),
    "5.7 calls in one chunk": (
        [{"tool_calls": first(0, "a", "{}")["tool_calls"] + first(1, "b", "{}")["tool_calls"]}],
        ["0+tool_use", "0 {}", "0-", "1+tool_use", "1 {}", "1-"],
    ),
    "5.7 calls without arguments": (
        [first(0, "a"), first(1, "b")],
        ["0+tool_use", "0-", "1+tool_use", "1-"],
    ),
    "5.7 calls that are all numbered 0": (
        [piece(0, "{}", name="a", id="c1"), piece(0, "{}", name="b", id="c2")],
        ["0+tool_use", "0 {}", "0-", "1+tool_use", "1 {}", "1-"],
    ),
    "5.7 id in every piece": (
        [piece(0, "{", name="a", id="c1"), piece(0, "}", id="c1")],
        ["0+tool_use", "0 {", "0 }", "0-"],
    ),
    "blank between whole calls": (
        [first(0, "a", "{}"), piece(0, "\n"), first(1, "b", "{}")],
        ["0+tool_use", "0 {}", "0 \n", "0-", "1+tool_use", "1 {}", "1-"],
    ),
    "name comes late": (
        [piece(0, "{", id="c1"), piece(0, "}", name="a")],
        ["0+tool_use", "0 {}", "0-"],
    ),
    "blank behind a whole call": (
        [first(0, "a", "{}"), first(1, "b", "{}"), piece(0, " ")],
        ["0+tool_use", "0 {}", "0-", "1+tool_use", "1 {}", "1-"],
    ),
    "arguments as an object": (
        [piece(0, None, name="a"), {"tool_calls": [{"function": {"arguments": {"x": 1}}}]}],
        ["0+tool_use", '0 {"x":1}', "0-"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("deltas", "letters"), SHAPES.values(), ids=SHAPES)
def test_blocks_follow_one_another(deltas: list[dict[str, Any]], letters: list[str]) -> None:
    events = spelled(*deltas)

    assert letters == shape(events)
    kinds = [event["type"] for event in events]
    assert ("message_start", ["message_delta", "message_stop"]) == (kinds[0], kinds[-2:])


@pytest.mark.parametrize(
    ("end", "deltas", "expected"),
    [
        (finish(), [{"content": "x"}], ("end_turn", None)),
        (finish(stop_reason="END"), [{"content": "x"}], ("stop_sequence", "END")),
        (finish(stop_reason="no"), [{"content": "x"}], ("end_turn", None)),
        (finish("length"), [{"content": "x"}], ("max_tokens", None)),
        (finish("content_filter"), [], ("refusal", None)),
        (finish("tool_calls"), [first(0, "a", "{}")], ("tool_use", None)),
        (finish("stop"), [first(0, "a", "{}")], ("tool_use", None)),
    ],
)
def test_a10_reason_to_stop_comes_in_message_delta(
    end: router_pb2.Finish, deltas: list[dict[str, Any]], expected: tuple[str, str | None]
) -> None:
    delta = spelled(*deltas, end=end)[-2]["delta"]

    assert expected == (delta["stop_reason"], delta["stop_sequence"])


@pytest.mark.parametrize(
    ("running", "input_tokens", "cached"),
    [
        (None, ESTIMATE, 0),
        (usage_pb2.TokenUsage(completion_token_count=1), ESTIMATE, 0),
        (usage_pb2.TokenUsage(prompt_token_count=12, completion_token_count=1), 12, 0),
        (USAGE, 8, 4),
    ],
)
def test_message_start_has_the_exact_input_where_it_is_known(
    running: usage_pb2.TokenUsage | None, input_tokens: int, cached: int
) -> None:
    answer = stream()
    answer.begin(running)

    usage = events_of(answer.feed(chunk({"content": "x"})))[0]["message"]["usage"]

    assert (input_tokens, cached) == (usage["input_tokens"], usage["cache_read_input_tokens"])
    assert 0 == usage["output_tokens"]


def test_only_the_first_choice_is_told() -> None:
    answer = stream()

    events = events_of(answer.feed(chunk({"content": "x"}, 1) + chunk({"content": "y"})))

    assert ["0+text", "0 y"] == shape(events)


@pytest.mark.parametrize(
    "deltas",
    [
        [first(0, "a", "{}"), {"content": "x"}, piece(0, "{}")],
        [first(0, "a", ""), first(1, "b", "x" * (HELD_CHARS_MAX + 1))],
        [piece(0, "{}", id="c1"), {"content": "x"}],
        [{"tool_calls": 5}],
    ],
    ids=["piece of a call that was closed", "too much is held", "no name", "no list"],
)
def test_chunks_that_cannot_be_told_are_the_upstreams_fault(deltas: list[dict[str, Any]]) -> None:
    with pytest.raises(TurnpikeError) as caught:
        spelled(*deltas)

    assert Reason.UPSTREAM_INVALID_RESPONSE == caught.value.reason


@st.composite
def answers(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what an assistant says, and the same as deltas that cut it anywhere."""
    words = st.text(st.sampled_from('aé🙂"\\\n{ '), max_size=6)
    thought, said = draw(words), draw(words)
    inputs = draw(st.lists(st.dictionaries(words, words | st.integers(0, 9), max_size=3)))
    deltas = [{"reasoning_content": part} for part in draw(pieces(thought))]
    deltas += [{"content": part} for part in draw(pieces(said))]
    calls = []
    for index, value in enumerate(inputs):
        arguments = json.dumps(value)
        function = {"name": f"tool{index}", "arguments": arguments}
        calls.append({"id": f"call_{index}", "type": "function", "function": function})
        deltas.append(first(index, f"tool{index}"))
        deltas += [piece(index, part) for part in draw(pieces(arguments))]
    return {"reasoning_content": thought, "content": said, "tool_calls": calls}, deltas


def pieces(text: str) -> st.SearchStrategy[list[str]]:
    """Return the ways to cut a text."""
    cuts = st.lists(st.integers(0, len(text)), max_size=4).map(sorted)
    return cuts.map(lambda at: [text[a:b] for a, b in zip([0, *at], [*at, len(text)], strict=True)])


@given(answers(), st.lists(st.integers(0, 60), max_size=6))
def test_batches_change_no_byte_and_a_stream_says_what_a_whole_answer_says(
    found: tuple[dict[str, Any], list[dict[str, Any]]], cuts: list[int]
) -> None:
    said, deltas = found
    chunks = [chunk(delta) for delta in (ROLE, *deltas)]
    at_once, in_batches = stream(), stream()
    bounds = [0, *sorted(min(cut, len(chunks)) for cut in cuts), len(chunks)]

    expected = at_once.feed(b"".join(chunks)) + at_once.end(b"", finish())
    batches = [b"".join(chunks[a:b]) for a, b in itertools.pairwise(bounds)]
    data = b"".join(in_batches.feed(batch) for batch in batches[:-1])
    data += in_batches.end(batches[-1], finish())

    assert expected == data
    whole = json.loads(message(completion(said), [], "r1"))
    assert whole["content"] == put_together(events_of(data))
