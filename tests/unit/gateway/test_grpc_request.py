"""A gRPC request becomes the JSON that HTTP would have brought, or is refused by name."""

import json
from typing import Any, TypeAlias

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as some

from gateway.grpc_request import Apis, body_of
from kit.errors import Reason, TurnpikeError
from tests.fixtures.rules import rules
from turnpike.router.v1 import chat_pb2, router_pb2
from turnpike.type.v1 import usage_pb2

Chat: TypeAlias = chat_pb2.ChatRequest
Said: TypeAlias = chat_pb2.ChatMessage
Envelope: TypeAlias = router_pb2.Envelope
USER = Said(role="user", content="hi")
BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
RULES = rules()
APIS = Apis(media_timeout_max_ms=60_000, upload_bytes_max=1024)


def chat(**fields: Any) -> Chat:
    return Chat(**{"model": "m", "messages": [USER], **fields})


def json_of(**request: Any) -> Any:
    return json.loads(body_of(router_pb2.RunRequest(**request)))


def refused(**request: Any) -> tuple[Reason, str | None]:
    with pytest.raises(TurnpikeError) as caught:
        body_of(router_pb2.RunRequest(**request))
    assert caught.value.message.endswith(".")
    return caught.value.reason, caught.value.metadata.get("param")


def test_body_passes_byte_by_byte() -> None:
    odd = b'{ "model" : "m", "x":1.0, "x":2 }'

    assert odd == body_of(router_pb2.RunRequest(body=odd))
    assert odd == body_of(router_pb2.RunRequest(body=odd, envelope=Envelope()))


def test_typed_request_has_every_field_that_was_set_and_no_other() -> None:
    call = chat_pb2.ToolCall(id="c1", name="f", arguments='{"a":1}')
    messages = [
        Said(role="system", content="be short"),
        Said(role="user", content_json=b'[{"type":"text","text":"hi"}]', name="ann"),
        Said(role="assistant", tool_calls=[call]),
        Said(role="tool", tool_call_id="c1", content=""),
    ]

    full = chat(
        messages=messages,
        stream=False,
        max_tokens=0,
        temperature=0.1,
        top_p=1,
        stop=["a", "b"],
        user="u",
        extra_json=b'{"seed":9007199254740993,"n":2}',
    )

    assert {"model": "m", "messages": [{"role": "user", "content": "hi"}]} == json_of(chat=chat())
    assert {
        "model": "m",
        "messages": [
            {"role": "system", "content": "be short"},
            {"role": "user", "content": [{"type": "text", "text": "hi"}], "name": "ann"},
            {
                "role": "assistant",
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "f", "arguments": '{"a":1}'},
                    }
                ],
            },
            {"role": "tool", "content": "", "tool_call_id": "c1"},
        ],
        "stream": False,
        "max_tokens": 0,
        "temperature": 0.1,
        "top_p": 1.0,
        "stop": ["a", "b"],
        "user": "u",
        "seed": 9007199254740993,
        "n": 2,
    } == json_of(chat=full)


FORM = (
    b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n'
    b'--x\r\ncontent-disposition: form-data; name="file"; filename="a.mp3"\r\n\r\nID3\r\n--x--'
)
BODIES: dict[int, bytes] = {
    router_pb2.OPERATION_UNSPECIFIED: BODY,
    router_pb2.OPERATION_COMPLETION: b'{"model":"m","prompt":"hi"}',
    router_pb2.OPERATION_EMBEDDING: b'{"model":"m","input":"hi"}',
    router_pb2.OPERATION_IMAGE: b'{"model":"m","prompt":"hi"}',
    router_pb2.OPERATION_SPEECH: b'{"model":"m","input":"hi","voice":"v"}',
    router_pb2.OPERATION_TRANSCRIPTION: FORM,
}


@pytest.mark.parametrize("operation", router_pb2.Operation.values())
def test_every_operation_is_read_as_over_http(operation: Any) -> None:
    form = "multipart/form-data; boundary=x" if BODIES[operation] is FORM else ""
    envelope = Envelope(operation=operation, content_type=form)
    request = router_pb2.RunRequest(body=BODIES[operation], envelope=envelope)

    call = APIS.of(envelope).read(body_of(request), RULES)

    assert ("m", operation) == (call.model, call.operation)


@given(
    some.lists(some.tuples(some.sampled_from(["user", "system"]), some.text()), min_size=1),
    some.floats(0, 2),
)
def test_typed_request_is_read_as_it_was_meant(
    said: list[tuple[str, str]], temperature: float
) -> None:
    messages = [Said(role=role, content=text) for role, text in said]
    request = router_pb2.RunRequest(chat=chat(messages=messages, temperature=temperature))

    call = APIS.of(request.envelope).read(body_of(request), RULES)

    found = json.loads(bytes(call.fields["messages"]))
    assert said == [(message["role"], message["content"]) for message in found]
    assert temperature == json.loads(bytes(call.fields["temperature"]))


MAY_SET = {"model_id", "is_streaming", "timeout_ms", "operation"}


def other_fields() -> list[tuple[str, Any]]:
    """Every field of the envelope that is the gateway's to fill in, with a value."""
    values = []
    for field in Envelope.DESCRIPTOR.fields:
        if field.name in MAY_SET:
            continue
        value: Any = "x" if field.is_repeated else None
        if field.name == "routing":
            value = router_pb2.Routing(sticky_key="k")
        elif field.name == "fallback_models":
            value = router_pb2.FallbackModel(model_id="m")
        elif field.name == "price_cap":
            value = usage_pb2.Price(price_id="p")
        elif value is None:
            value = {str: "x", bytes: b"x", bool: True, int: 1}.get(type(field.default_value))
        values.append((field.name, [value] if field.is_repeated else value))
    return values


@pytest.mark.parametrize(("name", "value"), other_fields(), ids=lambda item: str(item)[:20])
def test_what_is_the_gateways_to_fill_in_is_refused_by_name(name: str, value: Any) -> None:
    envelope = Envelope(**{name: value})

    assert (Reason.INVALID_VALUE, f"envelope.{name}") == refused(body=BODY, envelope=envelope)
    assert (Reason.INVALID_VALUE, f"envelope.{name}") == refused(chat=chat(), envelope=envelope)


def test_envelope_fills_what_the_body_leaves_out() -> None:
    envelope = Envelope(model_id="m", is_streaming=True, timeout_ms=7)

    bare = json_of(body=b'{"messages":[],"stream":null}', envelope=envelope)
    typed = json_of(chat=Chat(messages=[USER]), envelope=envelope)

    assert {"messages": [], "model": "m", "stream": True, "timeout_ms": 7} == bare
    assert ("m", True, 7) == (typed["model"], typed["stream"], typed["timeout_ms"])


def test_envelope_may_repeat_the_body() -> None:
    body = b'{"model":"m","messages":[],"stream":true,"timeout_ms":7.0}'
    envelope = Envelope(model_id="m", is_streaming=True, timeout_ms=7)

    assert json.loads(body) == json_of(body=body, envelope=envelope)
    assert not json_of(body=b'{"stream":false}', envelope=Envelope(model_id="m"))["stream"]


@pytest.mark.parametrize(
    ("envelope", "body"),
    [
        (Envelope(model_id="n"), BODY),
        (Envelope(is_streaming=True), b'{"stream":false}'),
        (Envelope(timeout_ms=5), b'{"timeout_ms":6}'),
        (Envelope(timeout_ms=5), b'{"timeout_ms":"5"}'),
    ],
)
def test_envelope_that_contradicts_the_body_is_refused(envelope: Envelope, body: bytes) -> None:
    ((field, _),) = envelope.ListFields()

    assert (Reason.INVALID_VALUE, f"envelope.{field.name}") == refused(body=body, envelope=envelope)


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"model":}', b'{"model":"\xff"}', b'{"\xff":1}', b"[" * 100_000]
)
def test_what_is_no_request_is_left_to_the_api_to_refuse(body: bytes) -> None:
    request = router_pb2.RunRequest(body=body, envelope=Envelope(model_id="m"))

    with pytest.raises(TurnpikeError) as caught:
        APIS.of(request.envelope).read(body_of(request), RULES)

    assert 400 == caught.value.outward.http_status


REFUSED: dict[str, tuple[dict[str, Any], Reason, str]] = {
    "neither": ({}, Reason.MISSING_FIELD, "body"),
    "both": ({"body": BODY, "chat": chat()}, Reason.INVALID_VALUE, "chat"),
    "typed embedding": (
        {"chat": chat(), "envelope": Envelope(operation=router_pb2.OPERATION_EMBEDDING)},
        Reason.INVALID_VALUE,
        "chat",
    ),
    "model beside a form": (
        {
            "body": b"--x--",
            "envelope": Envelope(operation=router_pb2.OPERATION_TRANSCRIPTION, model_id="m"),
        },
        Reason.INVALID_VALUE,
        "envelope.model_id",
    ),
    "unheard-of operation": (
        {"body": BODY, "envelope": Envelope(operation=77)},  # type: ignore[arg-type]
        Reason.UNSUPPORTED_PARAMETER,
        "envelope.operation",
    ),
    "not a number": ({"chat": chat(temperature=float("nan"))}, Reason.INVALID_VALUE, "temperature"),
    "no end": ({"chat": chat(top_p=float("inf"))}, Reason.INVALID_VALUE, "top_p"),
    "twice": (
        {"chat": chat(max_tokens=1, extra_json=b'{"max_tokens":2}')},
        Reason.INVALID_VALUE,
        "chat.extra_json",
    ),
    "extra no JSON": ({"chat": chat(extra_json=b"{")}, Reason.INVALID_JSON, "chat.extra_json"),
    "extra no object": ({"chat": chat(extra_json=b"[]")}, Reason.INVALID_VALUE, "chat.extra_json"),
    "two contents": (
        {"chat": chat(messages=[USER, Said(role="user", content="", content_json=b"[]")])},
        Reason.INVALID_VALUE,
        "chat.messages[1].content_json",
    ),
    "extra no UTF-8": (
        {"chat": chat(extra_json=b'{"\xff":1}')},
        Reason.INVALID_JSON,
        "chat.extra_json",
    ),
    "content no JSON": (
        {"chat": chat(messages=[Said(role="user", content_json=b"[1")])},
        Reason.INVALID_JSON,
        "chat.messages[0].content_json",
    ),
}


@pytest.mark.parametrize(("request_", "reason", "param"), REFUSED.values(), ids=REFUSED)
def test_request_that_cannot_be_meant_is_refused_by_name(
    request_: dict[str, Any], reason: Reason, param: str
) -> None:
    assert (reason, param) == refused(**request_)


def newer(message: Message) -> bytes:
    """The message with a field that only a later release knows."""
    return message.SerializeToString() + b"\xf8\x3f\x01"


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (router_pb2.RunRequest.FromString(newer(router_pb2.RunRequest(body=BODY))), "request"),
        (
            router_pb2.RunRequest(body=BODY, envelope=Envelope.FromString(newer(Envelope()))),
            "envelope",
        ),
        (router_pb2.RunRequest(chat=Chat.FromString(newer(chat()))), "chat"),
        (
            router_pb2.RunRequest(chat=chat(messages=[Said.FromString(newer(USER))])),
            "chat.messages[0]",
        ),
    ],
)
def test_field_of_a_later_release_is_refused_and_not_dropped(
    request_: router_pb2.RunRequest, param: str
) -> None:
    with pytest.raises(TurnpikeError) as caught:
        body_of(request_)

    found = caught.value
    assert (Reason.UNSUPPORTED_PARAMETER, param) == (found.reason, found.metadata["param"])
