"""What a chat body is read as, and what is refused with which field named."""

import json

import pytest

from gateway.call import ModelCall
from gateway.openai.dialect import DIALECTS, OPENAI
from gateway.openai.envelope import bounds, read_chat
from kit.errors import Reason, TurnpikeError
from tests.fixtures.rules import rules
from tests.fixtures.sizes import ModelSizes

MESSAGES = [{"role": "user", "content": "Hello"}]


def body(**more: object) -> bytes:
    return json.dumps({"model": "m", "messages": MESSAGES} | more).encode()


def read(raw: bytes, dialect: str = "openai") -> ModelCall:
    return read_chat(raw, rules(dialect))


@pytest.mark.parametrize(
    ("raw", "reason", "param"),
    [
        (b"", Reason.INVALID_JSON, None),
        (b"{", Reason.INVALID_JSON, None),
        (b"[1]", Reason.INVALID_VALUE, None),
        (b'{"model":"m","messages":[{"role":"user","content":NaN}]}', Reason.INVALID_JSON, None),
        (body() + b" x", Reason.INVALID_JSON, None),
        (b'\xef\xbb\xbf{"model":"m"}', Reason.INVALID_JSON, None),
        (b'{"model":"\\ud800","messages":[]}', Reason.INVALID_JSON, None),
        (b'{"model":"\xff","messages":[]}', Reason.INVALID_JSON, None),
        (body()[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
         Reason.INVALID_JSON, None),
        (b'{"messages":[{"role":"user","content":"x"}]}', Reason.MISSING_FIELD, "model"),
        (b'{"model":"m"}', Reason.MISSING_FIELD, "messages"),
        (body(model=""), Reason.INVALID_VALUE, "model"),
        (body(model=5), Reason.INVALID_VALUE, "model"),
        (body(messages=[]), Reason.INVALID_VALUE, "messages"),
        (body(messages="x"), Reason.INVALID_VALUE, "messages"),
        (body(messages=[{"role": "king", "content": "x"}]), Reason.INVALID_VALUE,
         "messages[0].role"),
        (body(messages=[{"role": "user"}]), Reason.MISSING_FIELD, "messages[0].content"),
        (body(messages=[{"role": "user", "content": 5}]), Reason.INVALID_VALUE,
         "messages[0].content"),
        (body(messages=[{"role": "tool", "content": "x", "tool_call_id": "c"}]),
         Reason.INVALID_VALUE, "messages[0].tool_call_id"),
        (body(stream="yes"), Reason.INVALID_VALUE, "stream"),
        (body(stream_options={}), Reason.INVALID_VALUE, "stream_options"),
        (body(stream=True, stream_options={"include_usage": 1}), Reason.INVALID_VALUE,
         "stream_options.include_usage"),
        (body(stream=True, stream_options={"include_obfuscation": 1}), Reason.INVALID_VALUE,
         "stream_options.include_obfuscation"),
        (body(stream=True, stream_options={"continuous_usage_stats": True}),
         Reason.UNSUPPORTED_PARAMETER, "stream_options.continuous_usage_stats"),
        (body(max_tokens=0), Reason.INVALID_VALUE, "max_tokens"),
        (body(max_tokens=1.5), Reason.INVALID_VALUE, "max_tokens"),
        (body(max_tokens=2**31), Reason.INVALID_VALUE, "max_tokens"),
        (body(max_tokens=10**400), Reason.INVALID_VALUE, "max_tokens"),
        (body(max_tokens=5, max_completion_tokens=6), Reason.INVALID_VALUE,
         "max_completion_tokens"),
        (body(temperature=2.1), Reason.INVALID_VALUE, "temperature"),
        (body(top_p=-0.1), Reason.INVALID_VALUE, "top_p"),
        (body(n=0), Reason.INVALID_VALUE, "n"),
        (body(n=17), Reason.INVALID_VALUE, "n"),
        (body(top_logprobs=3), Reason.INVALID_VALUE, "top_logprobs"),
        (body(logprobs=True, top_logprobs=21), Reason.INVALID_VALUE, "top_logprobs"),
        (body(frequency_penalty=3), Reason.INVALID_VALUE, "frequency_penalty"),
        (body(stop=["x"] * 17), Reason.INVALID_VALUE, "stop"),
        (body(timeout_ms=30_001), Reason.INVALID_VALUE, "timeout_ms"),
        (body(timeout_ms=0), Reason.INVALID_VALUE, "timeout_ms"),
    ],
)  # fmt: skip
def test_bad_bodies_are_refused_and_the_field_is_named(
    raw: bytes, reason: Reason, param: str | None
) -> None:
    with pytest.raises(TurnpikeError) as caught:
        read(raw)

    assert (reason, param) == (caught.value.reason, caught.value.metadata.get("param"))


@pytest.mark.parametrize(
    ("options", "ignored"),
    [
        ({"include_obfuscation": True}, ("stream_options.include_obfuscation",)),
        ({"include_obfuscation": False, "include_usage": True}, ()),
        ({"include_obfuscation": None}, ()),
        ({}, ()),
        (None, ()),
    ],
)
def test_padding_that_is_not_made_is_told(
    options: dict[str, bool | None] | None, ignored: tuple[str, ...]
) -> None:
    assert ignored == read(body(stream=True, stream_options=options)).ignored


def test_whole_floats_are_whole_numbers() -> None:
    call = read(body(max_tokens=100.0, seed=7.0, n=1.0))

    assert 100 == call.asked_max_tokens


def test_last_of_duplicate_keys_is_the_only_one_forwarded() -> None:
    call = read(
        b'{"model":"m","max_tokens":5,"max_tokens":9,"messages":[{"role":"user","content":"x"}]}'
    )

    assert 9 == call.asked_max_tokens
    assert b"9" == bytes(call.fields["max_tokens"])


@pytest.mark.parametrize(
    ("dialect", "is_streaming", "max_tokens"),
    [
        ("openai", False, None),
        ("vram", True, 4096),
        ("infer", False, None),
        ("bud", False, None),
        ("runinfra", False, 512),
    ],
)
def test_dialects_set_defaults(dialect: str, is_streaming: bool, max_tokens: int | None) -> None:
    call = read(body(), dialect)

    assert (is_streaming, max_tokens) == (call.is_streaming, call.asked_max_tokens)


@pytest.mark.parametrize(
    ("dialect", "temperature", "top_p"),
    [
        ("openai", None, None),
        ("vram", b"1.0", None),
        ("infer", b"1.0", b"1.0"),
        ("bud", None, None),
        ("runinfra", b"1.0", b"1.0"),
    ],
)
def test_absent_sampling_stays_absent_unless_the_dialect_says_otherwise(
    dialect: str, temperature: bytes | None, top_p: bytes | None
) -> None:
    fields = {name: bytes(raw) for name, raw in read(body(), dialect).fields.items()}

    assert (temperature, top_p) == (fields.get("temperature"), fields.get("top_p"))


def test_tool_answers_follow_their_call() -> None:
    conversation = [
        {"role": "user", "content": "x"},
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "y"},
    ]

    assert conversation == json.loads(bytes(read(body(messages=conversation)).fields["messages"]))


def limits(call: ModelCall, context: int = 4096, default: int = 256) -> tuple[int, int, int]:
    found = bounds(call, ModelSizes(context, default, 512))
    return found.max_tokens, found.prompt_tokens_max, found.completion_tokens_max


def test_bounds_take_what_was_asked_else_the_models_default() -> None:
    size = len(json.dumps(MESSAGES))

    assert (9, -(-size // 2), 9) == limits(read(body(max_tokens=9)))
    assert 256 == limits(read(body()))[0]
    assert 512 == limits(read(body(), "runinfra"))[0]


def test_bounds_leave_room_for_the_prompt_and_count_every_choice() -> None:
    long = [{"role": "user", "content": "x" * 400}]

    max_tokens, _, completion = limits(read(body(messages=long, n=3, max_tokens=900)), context=200)

    assert max_tokens < 100
    assert 3 * max_tokens == completion


def test_prompt_that_cannot_fit_is_refused() -> None:
    long = [{"role": "user", "content": "x" * 16 * 300}]

    with pytest.raises(TurnpikeError) as caught:
        limits(read(body(messages=long)), context=200)

    assert Reason.CONTEXT_LENGTH_EXCEEDED == caught.value.reason


def test_openai_is_the_default_dialect() -> None:
    assert DIALECTS["openai"] is OPENAI
