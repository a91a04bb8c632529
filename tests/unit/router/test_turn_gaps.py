"""Messages get back what their clients dropped, and nothing that a client sent is touched."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.providers.turn_gaps import read_gaps, turn_id
from services.router.providers.turn_state import TurnState, WantsBack, decode_state

CLAUDE = WantsBack(frozenset({"reasoning_details"}), frozenset({"anthropic-claude-v1"}))
GEMINI = WantsBack(frozenset({"reasoning_details", "extra_content"}), frozenset({"google"}))
DEEPSEEK = WantsBack(frozenset({"reasoning_content"}))
EXTRA = {"google": {"thought_signature": "sig"}}


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value, separators=(",", ":")).encode())


def use(call_id: str = "c1", **more: Any) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "f", "arguments": "{}"}, **more}


def called(*calls: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls or (use(),)), **more}


def thought(format_name: str = "anthropic-claude-v1") -> dict[str, Any]:
    return {"type": "reasoning.text", "text": "Hm", "signature": "s", "format": format_name}


def state(*details: Any, reasoning: str = "", **extras: Any) -> TurnState:
    return TurnState(
        [raw(detail) for detail in details],
        reasoning,
        {call_id: raw(extra) for call_id, extra in extras.items()},
    )


def filled(
    messages: list[Any], wanted: WantsBack, states: dict[str, TurnState]
) -> list[dict[str, Any]] | None:
    """Return the messages after what is known was put in; None when nothing was to do."""
    transcript = read_gaps(bytes(raw(messages)), wanted)
    if transcript is None:
        return None
    found = transcript.filled({gap.turn: states[gap.turn.call_id] for gap in transcript.gaps})
    return None if found is None else json.loads(bytes(found))


def test_claude_gets_its_details_back() -> None:
    messages = [{"role": "user", "content": "Hi"}, called(), {"role": "tool", "content": "x"}]

    found = filled(messages, CLAUDE, {"c1": state(thought(), reasoning="Hm", c1=EXTRA)})

    messages[1]["reasoning_details"] = [thought()]
    assert messages == found


def test_gemini_gets_the_signatures_of_its_calls_back() -> None:
    calls = [use("c1"), use("c2"), use("c3")]

    found = filled([called(*calls)], GEMINI, {"c1": state(c1=EXTRA, c3=EXTRA)})

    assert found is not None
    assert [EXTRA, None, EXTRA] == [call.get("extra_content") for call in found[0]["tool_calls"]]
    assert "reasoning_details" not in found[0]


def test_deepseek_gets_its_reasoning_back_in_every_message() -> None:
    states = {"c1": state(reasoning="One"), "c2": state(thought(), reasoning="Two")}

    found = filled([called(), called(use("c2"))], DEEPSEEK, states)

    assert found is not None
    assert ["One", "Two"] == [message["reasoning_content"] for message in found]
    assert not any("reasoning_details" in message for message in found)


def test_signatures_of_another_maker_stay_away() -> None:
    theirs = state(thought("google"), thought("other"), {"type": "reasoning.text"})

    assert filled([called()], CLAUDE, {"c1": theirs}) is None
    mixed = filled([called()], CLAUDE, {"c1": state(thought("google"), thought())})
    assert mixed is not None
    assert [thought()] == mixed[0]["reasoning_details"]


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        (called(reasoning_details=[thought("theirs")]), CLAUDE),
        (called(use(extra_content=EXTRA), reasoning_details=[{}]), GEMINI),
        (called(reasoning_content="mine"), DEEPSEEK),
    ],
)
def test_what_the_client_sent_stands(message: dict[str, Any], wanted: WantsBack) -> None:
    assert read_gaps(bytes(raw([message])), wanted) is None


def test_client_that_kept_one_signature_gets_no_other_ones() -> None:
    message = called(use("c1", extra_content=EXTRA), use("c2"))
    known = {"c1": state(thought("google"), c1={"other": 1}, c2=EXTRA)}

    found = filled([message], GEMINI, known)

    assert found is not None
    assert message["tool_calls"] == found[0]["tool_calls"]
    assert [thought("google")] == found[0]["reasoning_details"]


@pytest.mark.parametrize("empty", [None, [], ""])
def test_empty_member_is_a_missing_one(empty: Any) -> None:
    found = filled([called(reasoning_content=empty)], DEEPSEEK, {"c1": state(reasoning="Hm")})

    assert found is not None
    assert "Hm" == found[0]["reasoning_content"]


@pytest.mark.parametrize(
    "messages",
    [
        b"",
        b"null",
        b"[]",
        b"[1]",
        b'[{"role":"user","content":"\\"tool_calls\\""}]',
        b'[{"tool_calls":null}]',
        b'[{"tool_calls":[]}]',
        b'[{"tool_calls":7}]',
        b'[{"tool_calls":[1]}]',
        b'[{"tool_calls":[{"id":7}]}]',
        b'[{"tool_calls"',
        b"[" * 5000 + b'"tool_calls"',
    ],
)
def test_messages_without_gaps_are_left_alone(messages: bytes) -> None:
    assert read_gaps(messages, DEEPSEEK) is None


def test_messages_that_have_no_gap_keep_every_byte() -> None:
    odd = b'{"role": "user",  "content":"1.0", "n":1.50}'
    messages = b"[" + odd + b"," + bytes(raw(called())) + b"]"

    transcript = read_gaps(messages, DEEPSEEK)

    assert transcript is not None
    found = transcript.filled({gap.turn: state(reasoning="Hm") for gap in transcript.gaps})
    assert found is not None
    assert bytes(found).startswith(b"[" + odd + b",")


texts = st.text(max_size=6)
members = st.fixed_dictionaries(
    {},
    optional={
        "reasoning_content": st.none() | texts,
        "reasoning_details": st.none() | st.lists(st.just(thought()), max_size=2),
        "extra": texts,
    },
)


@given(st.lists(members, max_size=4), st.sampled_from([CLAUDE, GEMINI, DEEPSEEK]))
def test_nothing_that_was_there_is_changed(each: list[dict[str, Any]], wanted: WantsBack) -> None:
    messages = [called(use(f"c{index}"), **more) for index, more in enumerate(each)]
    known = {
        f"c{index}": state(thought(), thought("google"), reasoning="Hm", **{f"c{index}": EXTRA})
        for index in range(len(each))
    }

    found = filled(messages, wanted, known) or messages

    for before, after in zip(messages, found, strict=True):
        for name, value in before.items():
            if value and name != "tool_calls":
                assert value == after[name]
        assert before["tool_calls"][0].items() <= after["tool_calls"][0].items()


@given(texts, st.dictionaries(texts, st.just(raw(EXTRA)), max_size=3))
def test_state_survives_being_written(reasoning: str, extras: dict[str, msgspec.Raw]) -> None:
    kept = TurnState([raw(thought())], reasoning, extras)

    assert kept == decode_state(kept.encoded())
    assert kept
    assert not TurnState()


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


PARTS = [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}]


@pytest.mark.parametrize(
    ("before", "again"),
    [
        ([user("ab")], [user("ab")]),
        ([user("ab")], [user(PARTS)]),
        ([user("old"), user("ab")], [user("ab")]),
        ([user("ab"), called(use("c0")), {"role": "tool", "content": "x"}], [user("ab")]),
        ([], [{"role": "system", "content": "s"}]),
        ([user("")], []),
    ],
)
def test_turn_is_known_again_by_what_the_user_said_last(before: Any, again: Any) -> None:
    transcript = read_gaps(bytes(raw([*again, called(), user("later")])), DEEPSEEK)

    assert transcript is not None
    assert [turn_id(bytes(raw(before)), "c1")] == [gap.turn for gap in transcript.gaps]


@pytest.mark.parametrize("again", [[user("other")], [], [user("ab"), user("other")]])
def test_same_id_of_another_conversation_is_another_turn(again: Any) -> None:
    transcript = read_gaps(bytes(raw([*again, called()])), DEEPSEEK)

    assert transcript is not None
    assert turn_id(bytes(raw([user("ab")])), "c1") != transcript.gaps[0].turn


@pytest.mark.parametrize("junk", [b"", b"7", b"[7]", b'[{"role":"user","content":7}]'])
def test_junk_has_no_turn(junk: bytes) -> None:
    assert turn_id(junk, "c1") is None
