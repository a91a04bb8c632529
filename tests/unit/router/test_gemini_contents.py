"""Conversations as Gemini's contents."""

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.providers.fetch import ImageUrl
from services.router.providers.google.gemini_answer import read_gemini
from services.router.providers.google.gemini_codec import GeminiCodec
from services.router.providers.port import Body, Failure, ProviderError
from tests.fakes.gemini_calls import gemini_call, message_of
from tests.fakes.gemini_oracle import read_request
from tests.fakes.gemini_script import SIGNATURE, Json, Said, Script, dumps, whole_of

CODEC = GeminiCodec("ai_studio")
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n0000").decode()


def body_of(messages: list[Json]) -> Body:
    return msgspec.json.decode(msgspec.json.encode({"messages": messages}), type=Body)


def contents(
    messages: list[Json],
    fetched: dict[str, tuple[str, bytes]] | None = None,
    model: str = "gemini-2.5-flash",
) -> list[Json]:
    outgoing = CODEC.encode(gemini_call(upstream_model=model), body_of(messages), fetched or {})
    sent = json.loads(outgoing.body)
    read_request(sent)
    found: list[Json] = sent["contents"]
    return found


def used(call_id: str, name: str = "f", **more: Any) -> Json:
    function = {"name": name, "arguments": '{"a": 1.50}'}
    return {"id": call_id, "type": "function", "function": function, **more}


def signed(call_id: str) -> Json:
    return used(call_id, extra_content={"google": {"thought_signature": SIGNATURE}})


def result(call_id: str, content: Any = "42") -> Json:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


USER: Json = {"role": "user", "content": "hi"}


def test_instructions_stand_apart() -> None:
    messages = [{"role": "developer", "content": "a"}, USER, {"role": "system", "content": "b"}]

    outgoing = CODEC.encode(gemini_call(), body_of(messages), {})

    sent = json.loads(outgoing.body)
    assert {"parts": [{"text": "a"}, {"text": "b"}]} == sent["systemInstruction"]
    assert [{"role": "user", "parts": [{"text": "hi"}]}] == sent["contents"]


def test_results_stand_in_the_order_of_the_calls() -> None:
    messages = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [used("x"), used("y", "g")]},
        result("y", "second"),
        result("x", "first"),
        {"role": "user", "content": "so?"},
    ]

    found = contents(messages)

    assert ["user", "model", "user", "user"] == [each["role"] for each in found]
    assert [
        {"functionResponse": {"id": "x", "name": "f", "response": {"output": "first"}}},
        {"functionResponse": {"id": "y", "name": "g", "response": {"output": "second"}}},
    ] == found[2]["parts"]
    assert [{"text": "so?"}] == found[3]["parts"]


def test_arguments_go_back_as_they_were_written() -> None:
    messages = [USER, {"role": "assistant", "tool_calls": [used("x")]}, result("x")]

    outgoing = CODEC.encode(gemini_call(), body_of(messages), {})

    assert b'"args":{"a": 1.50}' in outgoing.body


@pytest.mark.parametrize("arguments", ["[]", "oops", "1", '{"a"'])
def test_arguments_that_are_no_object_are_another_routes(arguments: str) -> None:
    call = used("x") | {"function": {"name": "f", "arguments": arguments}}

    with pytest.raises(ProviderError) as caught:
        contents([USER, {"role": "assistant", "tool_calls": [call]}])

    assert (Failure.UNSUPPORTED, "messages") == (caught.value.failure, caught.value.param)


def test_own_ids_are_not_told_to_the_upstream() -> None:
    script = Script(said=(Said({"functionCall": {"name": "f"}, "thoughtSignature": SIGNATURE}),))
    answer = read_gemini(gemini_call(is_streaming=False), dumps(whole_of(script)))
    called = message_of([answer])["tool_calls"]

    found = contents([USER, {"role": "assistant", "tool_calls": called}, result(called[0]["id"])])

    assert [{"functionCall": {"name": "f", "args": {}}, "thoughtSignature": SIGNATURE}] == found[1][
        "parts"
    ]
    assert ["name", "response"] == list(found[2]["parts"][0]["functionResponse"])


@pytest.mark.parametrize(
    ("model", "signatures"),
    [
        ("gemini-2.5-pro", [None, None]),
        ("gemini-3-pro-preview", ["skip_thought_signature_validator", None]),
    ],
)
def test_lost_signature_is_stood_in_for_where_it_is_wanted(
    model: str, signatures: list[str | None]
) -> None:
    messages = [
        USER,
        {"role": "assistant", "tool_calls": [used("x"), used("y")]},
        result("x"),
        result("y"),
    ]

    found = contents(messages, model=model)

    assert signatures == [part.get("thoughtSignature") for part in found[1]["parts"]]


def test_signature_of_the_first_call_serves_for_all() -> None:
    messages = [USER, {"role": "assistant", "tool_calls": [signed("x"), used("y")]}]

    parts = contents(messages, model="gemini-3-pro-preview")[1]["parts"]

    assert [SIGNATURE, None] == [part.get("thoughtSignature") for part in parts]


@pytest.mark.parametrize(("maker", "is_kept"), [("google-gemini-v1", True), ("other-v1", False)])
def test_only_its_own_signatures_go_back_to_a_model(maker: str, is_kept: bool) -> None:
    detail = {"type": "reasoning.text", "text": "", "signature": SIGNATURE, "format": maker}
    messages = [USER, {"role": "assistant", "content": "Hi", "reasoning_details": [detail]}, USER]

    part = contents(messages)[1]["parts"][0]

    assert "Hi" == part["text"]
    assert is_kept == (part.get("thoughtSignature") == SIGNATURE)


def test_thoughts_go_back_as_thoughts() -> None:
    messages = [USER, {"role": "assistant", "content": "Hi", "reasoning_content": "hm"}, USER]

    assert [{"text": "hm", "thought": True}, {"text": "Hi"}] == contents(messages)[1]["parts"]


def test_media_is_inline() -> None:
    pdf = {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}
    content = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        {"type": "file", "file": pdf},
        {"type": "input_audio", "input_audio": {"data": "SUQz", "format": "mp3"}},
    ]

    assert [
        {"text": "look"},
        {"inlineData": {"mimeType": "image/png", "data": PNG}},
        {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0="}},
        {"inlineData": {"mimeType": "audio/mp3", "data": "SUQz"}},
    ] == contents([{"role": "user", "content": content}])[0]["parts"]


def test_image_of_a_tool_stands_in_its_answer() -> None:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    messages = [
        USER,
        {"role": "assistant", "tool_calls": [used("x")]},
        result("x", [{"type": "text", "text": "see"}, image]),
    ]

    answer = contents(messages)[2]["parts"][0]["functionResponse"]

    assert {"output": "see"} == answer["response"]
    assert [{"inlineData": {"mimeType": "image/png", "data": PNG}}] == answer["parts"]


def test_images_elsewhere_are_fetched() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    messages = [{"role": "user", "content": [image]}]
    where = "messages[0].content[0].image_url.url"

    found = contents(messages, {where: ("image/png", base64.b64decode(PNG))})

    assert [ImageUrl(where, "https://example.com/a.png")] == CODEC.remote_images(body_of(messages))
    assert [{"inlineData": {"mimeType": "image/png", "data": PNG}}] == found[0]["parts"]
    assert [] == CODEC.remote_images(body_of([USER]))


def test_empty_turns_are_left_out() -> None:
    messages = [USER, {"role": "assistant", "content": ""}, USER]

    assert ["user", "user"] == [each["role"] for each in contents(messages)]


MESSAGES = st.lists(
    st.one_of(
        st.builds(lambda t: {"role": "user", "content": t}, st.text(max_size=5)),
        st.builds(lambda t: {"role": "assistant", "content": t}, st.text(max_size=5)),
        st.builds(
            lambda i, t: {"role": "assistant", "content": t, "tool_calls": [signed(i)]},
            st.sampled_from("abc"),
            st.none() | st.text(max_size=5),
        ),
    ),
    max_size=6,
)


@given(MESSAGES)
def test_any_conversation_is_understood_and_loses_no_text(messages: list[Json]) -> None:
    found = contents([*messages, USER])

    said = "".join(part.get("text", "") for each in found for part in each["parts"])
    assert "".join(m["content"] or "" for m in [*messages, USER]) == said
    assert all(each["parts"] for each in found)


def test_what_has_no_place_is_told() -> None:
    image = {"url": f"data:image/png;base64,{PNG}", "detail": "low"}
    pdf = {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}
    content = [{"type": "image_url", "image_url": image}, {"type": "file", "file": pdf}]
    messages = [{"role": "user", "name": "ann", "content": content}]

    outgoing = CODEC.encode(gemini_call(), body_of(messages), {})

    assert (
        "messages.file.filename",
        "messages.image_url.detail",
        "messages.name",
    ) == outgoing.ignored


@pytest.mark.parametrize("detail", ["auto", None])
def test_usual_detail_is_nothing_to_tell(detail: str | None) -> None:
    image = {"url": f"data:image/png;base64,{PNG}", "detail": detail}
    messages = [USER, {"role": "user", "content": [{"type": "image_url", "image_url": image}]}]

    assert () == CODEC.encode(gemini_call(), body_of(messages), {}).ignored
