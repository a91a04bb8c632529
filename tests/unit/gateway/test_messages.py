"""Messages and their blocks: what is served, what is refused, and which place is named.

Rows P3 to P10 of the feature table.
"""

import base64
import json
from typing import Any

import pytest

from gateway.call import Media, ModelCall
from gateway.openai import messages as module
from gateway.openai.envelope import bounds, read_chat
from kit.errors import Reason, TurnpikeError
from tests.fixtures.content_blocks import (
    GIF,
    JPEG,
    PNG,
    WEBP,
    audio,
    chat_body,
    data_url,
    image,
    pdf,
    text,
    tool_call,
    user,
)
from tests.fixtures.rules import rules
from tests.fixtures.sizes import ModelSizes

RULES = rules()
HELLO = {"role": "user", "content": "Hello"}
CALLS = {"role": "assistant", "content": None, "tool_calls": [tool_call("c1"), tool_call("c2")]}
ANSWER = {"role": "tool", "tool_call_id": "c1", "content": "42"}
VALUE, MISSING = Reason.INVALID_VALUE, Reason.MISSING_FIELD


def read(*messages: Any) -> ModelCall:
    return read_chat(chat_body(*messages), RULES)


def case(row: str, *messages: Any) -> Any:
    return pytest.param(messages, id=row)


def bad(row: str, reason: Reason, param: str, *messages: Any) -> Any:
    return pytest.param(messages, reason, param, id=row)


def said(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


@pytest.mark.parametrize(
    "messages",
    [
        case("P3-every-role", *(said(r, "x") for r in ("system", "developer", "user"))),
        case("P3-assistant", HELLO, said("assistant", "Hi"), HELLO),
        case("P3-name", said("user", "x", name="ann-1")),
        case("P4-tool", HELLO, CALLS, ANSWER, said("tool", "x", tool_call_id="c2")),
        case("P4-tool-answers-in-blocks", CALLS, said("tool", [text()], tool_call_id="c1")),
        case("P5-empty-string", said("user", "")),
        case("P5-null-with-tool-calls", HELLO, CALLS),
        case("P5-no-blocks-with-tool-calls", said("assistant", [], tool_calls=[tool_call()])),
        case("P5-null-with-refusal", HELLO, said("assistant", None, refusal="No.")),
        case("P5-empty-tool-calls", HELLO, said("assistant", "x", tool_calls=[])),
        case("P6-blocks-of-each-kind", user(text(), image(), pdf(), audio())),
        case("P7-text-blocks", *(said(r, [text()]) for r in ("system", "developer", "assistant"))),
        case("P7-refusal", said("assistant", [{"type": "refusal", "refusal": "No."}])),
        case("P8-https", user(image("https://cdn.example.com:8443/a.png?x=1#y"))),
        case("P8-public-address", user(image("https://8.8.8.8/a.png"))),
        case("P8-detail", *(user(image(detail=d)) for d in ("auto", "low", "high", None))),
        case("P8-png", user(image(data_url(PNG)))),
        case("P8-jpeg", user(image(data_url(JPEG, "image/jpeg")))),
        case("P8-gif", user(image(data_url(GIF, "image/gif")))),
        case("P8-webp", user(image(data_url(WEBP, "IMAGE/WEBP")))),
        case("P9-pdf", user(pdf())),
        case("P9-no-name", user(pdf(filename=None))),
        case("P10-extra-members", said("assistant", "x", tool_calls=[tool_call(index=0)])),
    ],
)
def test_good_messages_are_forwarded_as_they_came(messages: tuple[Any, ...]) -> None:
    assert list(messages) == json.loads(bytes(read(*messages).fields["messages"]))


AT = "messages[0].content[0]"
URL = f"{AT}.image_url.url"
CALL = "messages[0].tool_calls[0]"


@pytest.mark.parametrize(
    ("messages", "reason", "param"),
    [
        bad("P3-role", VALUE, "messages[0].role", said("function", "x")),
        bad("P3-name-empty", VALUE, "messages[0].name", said("user", "x", name="")),
        bad("P3-name-long", VALUE, "messages[0].name", said("user", "x", name="x" * 65)),
        bad("P3-name-token", VALUE, "messages[0].name", said("user", "x", name="<|im_end|>")),
        bad("P4-unknown-call", VALUE, "messages[1].tool_call_id",
            CALLS, {**ANSWER, "tool_call_id": "x"}),
        bad("P4-no-call-id", VALUE, "messages[0].tool_call_id", said("tool", "x")),
        bad("P4-answer-first", VALUE, "messages[0].tool_call_id", ANSWER, CALLS),
        bad("P5-null", MISSING, "messages[0].content", said("user", None)),
        bad("P5-assistant-null", MISSING, "messages[1].content", HELLO, said("assistant", None)),
        bad("P5-number", VALUE, "messages[0].content", said("user", 5)),
        bad("P6-empty", VALUE, "messages[0].content", user()),
        bad("P6-many", VALUE, "messages[0].content", user(*[text("x")] * (module.BLOCKS_MAX + 1))),
        bad("P6-unknown-type", VALUE, f"{AT}.type", user({"type": "video_url", "video_url": {}})),
        bad("P6-no-type", MISSING, f"{AT}.type", user({"text": "x"})),
        bad("P6-string-block", VALUE, AT, user("x")),
        bad("P7-no-text", MISSING, f"{AT}.text", user({"type": "text"})),
        bad("P7-null-text", MISSING, f"{AT}.text", user({"type": "text", "text": None})),
        bad("P7-number-text", VALUE, f"{AT}.text", user({"type": "text", "text": 1})),
        bad("P7-user-refusal", VALUE, f"{AT}.type", user({"type": "refusal", "refusal": "x"})),
        bad("P8-no-image", MISSING, f"{AT}.image_url", user({"type": "image_url"})),
        bad("P8-no-url", MISSING, URL, user({"type": "image_url", "image_url": {}})),
        bad("P8-string", VALUE, f"{AT}.image_url", user({"type": "image_url", "image_url": "x"})),
        bad("P8-detail", VALUE, f"{AT}.image_url.detail", user(image(detail="max"))),
        *(
            bad(f"P8-{role}", VALUE, f"{AT}.type", said(role, [image()]))
            for role in ("system", "developer", "assistant")
        ),
        *(
            bad(f"P8-{url}", VALUE, URL, user(image(url)))
            for url in (
                "",
                "http://example.com/a.png",
                "ftp://example.com/a.png",
                "file:///etc/passwd",
                "gopher://example.com/",
                "example.com/a.png",
                "https://user:pass@example.com/a.png",
                "https://localhost/a.png",
                "https://10.1.2.3/a.png",
                "https://169.254.169.254/latest",
                "https://2130706433/",
                "data:text/html;base64,AAAA",
                "data:image/svg+xml;base64,AAAA",
                "data:image/png,AAAA",
                "data:image/png;base64,",
                "data:image/png;base64,AAA",
                "data:image/png;base64,AA A",
                "data:image/png;base64,AAAA",
                "data:image/png;base64,A===",
            )
        ),
        bad("P8-many", VALUE, "messages", *[user(image())] * (module.IMAGES_MAX + 1)),
        bad("P9-no-file", MISSING, f"{AT}.file", user({"type": "file"})),
        bad("P9-no-data", MISSING, f"{AT}.file.file_data", user(pdf(file_data=None))),
        bad("P9-id", Reason.UNSUPPORTED_PARAMETER, f"{AT}.file.file_id", user(pdf(file_id="f-1"))),
        bad("P9-url", VALUE, f"{AT}.file.file_data", user(pdf("https://example.com/a.pdf"))),
        bad("P9-kind", VALUE, f"{AT}.file.file_data", user(pdf(data_url(PNG, "image/png")))),
        bad("P9-magic", VALUE, f"{AT}.file.file_data", user(pdf(data_url(PNG, "application/pdf")))),
        bad("P9-name", VALUE, f"{AT}.file.filename", user(pdf(filename="x" * 256))),
        bad("P9-system", VALUE, f"{AT}.type", said("system", [pdf()])),
        bad("P9-many", VALUE, "messages", user(*[pdf()] * module.FILES_MAX, audio())),
        bad("audio-data", VALUE, f"{AT}.input_audio.data", user(audio(data="%%%"))),
        bad("audio-format", VALUE, f"{AT}.input_audio.format", user(audio(format="audio/wav"))),
        bad("P10-user-calls", VALUE, "messages[0].tool_calls",
            said("user", "x", tool_calls=[tool_call()])),
        bad("P10-id", VALUE, f"{CALL}.id", said("assistant", "", tool_calls=[tool_call(5)])),
        bad("P10-id-empty", VALUE, f"{CALL}.id", said("assistant", "", tool_calls=[tool_call("")])),
        bad("P10-type", VALUE, f"{CALL}.type",
            said("assistant", "", tool_calls=[tool_call(type="custom")])),
        bad("P10-no-function", MISSING, f"{CALL}.function",
            said("assistant", "", tool_calls=[{"id": "a", "type": "function"}])),
        bad("P10-no-name", MISSING, f"{CALL}.function.name",
            said("assistant", "", tool_calls=[tool_call(function={"arguments": ""})])),
        bad("P10-arguments", VALUE, f"{CALL}.function.arguments",
            said("assistant", "", tool_calls=[tool_call(function={"name": "f", "arguments": {}})])),
        bad("P10-call-id", VALUE, "messages[0].tool_call_id", said("tool", "x", tool_call_id=7)),
    ],
)  # fmt: skip
def test_bad_message_is_refused_and_its_place_named(
    messages: tuple[Any, ...], reason: Reason, param: str
) -> None:
    with pytest.raises(TurnpikeError) as caught:
        read(*messages)

    assert (reason, param) == (caught.value.reason, caught.value.metadata["param"])
    assert caught.value.message.startswith(param)


def test_inline_media_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INLINE_BYTES_MAX", len(PNG))
    read(user(image(data_url(PNG))))

    with pytest.raises(TurnpikeError) as caught:
        read(user(image(data_url(PNG + bytes(3)))))

    assert URL == caught.value.metadata["param"]


def test_media_is_counted_and_named_as_features() -> None:
    inline = data_url(PNG)

    call = read(user(text(), image(), image(inline), pdf(), audio()))

    assert ("file", "image_url", "input_audio") == call.features
    answered = read(HELLO, CALLS, {**ANSWER, "content": [image()]})
    assert {"image_url", "tool_images"} == set(answered.features)
    assert call.media is not None
    size = sum(len(url.partition(",")[2]) for url in (inline, pdf()["file"]["file_data"])) + 4
    assert Media(2, 2, size) == call.media
    assert len(call.fields["messages"]) - size == call.prompt_bytes


def test_text_alone_needs_no_feature() -> None:
    call = read(HELLO, user(text()), said("assistant", [{"type": "refusal", "refusal": "No."}]))

    assert ((), None) == (call.features, call.media)


@pytest.mark.parametrize(
    "escapes",
    [
        {"/": "\\/"},
        {"+": "\\u002B"},
        {"+": "\\u002b", "/": "\\/", "=": "\\u003D"},
        {"/": "\\u002f", "=": "\\u003d"},
    ],
)
def test_escapes_of_json_writers_count_as_media(escapes: dict[str, str]) -> None:
    packed = base64.b64encode(PNG + b"\xfb\xef\xbe\xff\xff\xff" * 99 + b"\x00").decode()
    assert set("+/=") < set(packed)
    plain = chat_body(user(text("a/b"), image(f"data:image/png;base64,{packed}")))
    written = packed
    for letter, escape in escapes.items():
        written = written.replace(letter, escape)
    escaped = plain.replace(packed.encode(), written.encode())

    calls = [read_chat(body, RULES) for body in (plain, escaped)]

    assert calls[0].prompt_bytes == calls[1].prompt_bytes
    assert calls[1].media is not None
    assert len(written) == calls[1].media.inline_bytes


def test_media_raises_the_bound_of_the_prompt_by_its_own_maximum() -> None:
    sizes = ModelSizes(100_000, 16, 1024, image_tokens_max=1600, file_tokens_max=5000)

    def prompt_tokens_max(*blocks: Any) -> int:
        return bounds(read(user(*blocks)), sizes).prompt_tokens_max

    large = data_url(PNG + bytes(300_000))

    assert 1600 <= prompt_tokens_max(image(large)) < 1750
    assert 3200 <= prompt_tokens_max(image(large), image(large)) < 3400
    assert 5000 <= prompt_tokens_max(pdf()) < 5200
