"""OpenAI messages as alternating turns of content."""

from contextlib import suppress
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.providers.port import Failure, ProviderError
from services.router.providers.turns import (
    Dialogue,
    File,
    Image,
    Reasoning,
    Text,
    ToolResult,
    ToolUse,
    Turn,
    read_dialogue,
)

PIXEL = "data:image/png;base64,iVBORw0KGgo="


def read(*messages: dict[str, Any], **fetched: tuple[str, bytes]) -> Dialogue:
    body = {"messages": msgspec.Raw(msgspec.json.encode(messages))}
    return read_dialogue(body, fetched)


def call(call_id: str, name: str, arguments: str, **more: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function, **more}


def test_instructions_are_set_apart_wherever_they_stand() -> None:
    found = read(
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello"},
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
    )

    assert found.system == (Text("Be kind."), Text("Be brief."))
    assert found.turns == (Turn("user", (Text("Hello"),)),)


def test_results_of_one_turn_stand_together_before_what_the_user_says() -> None:
    found = read(
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [call("a", "look", '{"x":1}'), call("b", "listen", "")],
        },
        {"role": "tool", "tool_call_id": "b", "content": "quiet"},
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "sunny"}]},
        {"role": "user", "content": "And now?"},
    )

    assert found.turns[1] == Turn(
        "assistant", (ToolUse("a", "look", '{"x":1}'), ToolUse("b", "listen", "{}"))
    )
    assert found.turns[2] == Turn(
        "user",
        (
            ToolResult("b", "listen", (Text("quiet"),)),
            ToolResult("a", "look", (Text("sunny"),)),
            Text("And now?"),
        ),
    )


def test_media_is_split_and_what_has_to_be_fetched_is_named() -> None:
    where = "messages[0].content[1].image_url.url"
    content = [
        {"type": "image_url", "image_url": {"url": PIXEL}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {
            "type": "file",
            "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "b"},
        },
    ]

    found = read({"role": "user", "content": content})
    (remote,) = found.images()
    whole = read({"role": "user", "content": content}, **{where: ("image/gif", b"GIF89a")})

    assert found.turns[0].parts == (
        Image("messages[0].content[0].image_url.url", "image/png", "iVBORw0KGgo="),
        Image(where, url="https://example.com/a.png"),
        File("messages[0].content[2].file", "application/pdf", "AAAA", "b"),
    )
    assert remote.where == where
    assert whole.turns[0].parts[1] == Image(where, "image/gif", "R0lGODlh")
    assert not list(whole.images())


def test_thoughts_come_back_with_their_signatures_and_markers_stay() -> None:
    found = read(
        {
            "role": "user",
            "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}],
        },
        {
            "role": "assistant",
            "content": "Hello",
            "reasoning_content": "Greet.",
            "reasoning_details": [
                {"type": "reasoning.text", "text": "Greet.", "signature": "sig"},
                {"type": "reasoning.summary", "summary": "none"},
            ],
            "tool_calls": [
                call("a", "look", "{}", extra_content={"google": {"thought_signature": "g"}})
            ],
        },
        {"role": "assistant", "content": "More", "reasoning_content": "Unsigned."},
    )

    assert found.turns[0].parts == (Text("Hi", is_cached=True),)
    assert found.turns[1].parts == (
        Reasoning("Greet.", "sig"),
        Text("Hello"),
        ToolUse("a", "look", "{}", "g"),
        Reasoning("Unsigned."),
        Text("More"),
    )


def test_markers_keep_how_long_they_last_and_sealed_thoughts_say_whose_they_are() -> None:
    marker = {"type": "ephemeral", "ttl": "1h"}
    sealed = {"type": "reasoning.encrypted", "data": "xyz", "format": "anthropic-claude-v1"}
    found = read(
        {"role": "user", "content": "Hi", "cache_control": marker},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "Unsigned.",
            "reasoning_details": [sealed],
            "tool_calls": [call("a", "look", "{}")],
        },
        {
            "role": "tool",
            "tool_call_id": "a",
            "content": [{"type": "text", "text": "Blue", "cache_control": marker}],
        },
    )

    (thought, _), (result,) = found.turns[1].parts, found.turns[2].parts
    assert found.turns[0].parts == (Text("Hi", is_cached=True, cache_ttl="1h"),)
    assert thought == Reasoning("", sealed="xyz", format="anthropic-claude-v1")
    assert isinstance(result, ToolResult)
    assert (result.is_cached, result.cache_ttl) == (True, "1h")


def test_what_has_no_place_is_named_and_a_refusal_is_what_was_said() -> None:
    image = {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}}
    found = read(
        {"role": "user", "content": [image], "name": "ann"},
        {"role": "assistant", "content": None, "refusal": "No."},
    )

    assert found.left_out == ("messages.image_url.detail", "messages.name")
    assert found.turns[1].parts == (Text("No."),)


def test_a_block_that_has_no_place_is_refused_by_its_name() -> None:
    block = {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}}

    with pytest.raises(ProviderError) as caught:
        read({"role": "user", "content": [block]})

    assert caught.value.failure is Failure.UNSUPPORTED
    assert caught.value.param == "messages[0].content[0]"


@given(st.binary(max_size=60))
def test_junk_is_refused_and_never_crashes(junk: bytes) -> None:
    with suppress(ProviderError):
        assert read_dialogue({"messages": msgspec.Raw(junk)}).turns == ()


ROLES = st.sampled_from(["system", "user", "assistant", "tool"])


@given(st.lists(st.tuples(ROLES, st.text(min_size=1, max_size=5)), max_size=12))
def test_roles_alternate_and_no_text_is_lost(said: list[tuple[str, str]]) -> None:
    found = read(*({"role": r, "content": t, "tool_call_id": "x"} for r, t in said))

    roles = [turn.role for turn in found.turns]
    assert all(one != other for one, other in pairwise(roles))
    texts = [part.text for part in found.system]
    for turn in found.turns:
        for part in turn.parts:
            inner = part.parts if isinstance(part, ToolResult) else (part,)
            texts += [each.text for each in inner if isinstance(each, Text)]
    assert sorted(texts) == sorted(text for _, text in said)


def test_a_recording_is_a_file_of_sound() -> None:
    block = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}

    found = read({"role": "user", "content": [block]})

    where = "messages[0].content[0].input_audio"
    assert found.turns[0].parts == (File(where, "audio/wav", "UklGRg=="),)
