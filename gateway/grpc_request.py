"""What a gRPC caller asks, as the JSON body that HTTP would have brought; pure.

Callers send `body` or `chat`, and of the envelope a few fields that must agree with it. What they
may not set is refused by name: nothing is dropped in silence.
"""

import math
from collections.abc import Set as AbstractSet
from typing import Any, Final, NamedTuple

import msgspec
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from gateway.call import Api
from gateway.openai.chat import CHAT
from gateway.openai.completions import COMPLETIONS
from gateway.openai.embeddings import EMBEDDINGS
from gateway.openai.media import ImageApi, SpeechApi
from gateway.openai.schema import decode_fields, encode
from gateway.openai.transcription import TranscriptionApi
from kit.errors import Reason, TurnpikeError
from turnpike.router.v1 import chat_pb2, router_pb2

_FORM: Final = router_pb2.OPERATION_TRANSCRIPTION
"""The operation whose body is a form; `envelope.content_type` says so, with its boundary."""
_SPELLED: Final = {"model_id": "model", "is_streaming": "stream", "timeout_ms": "timeout_ms"}
"""Fields of the envelope that callers may set, as the body spells them."""
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_decode_value = msgspec.json.Decoder().decode
_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode


class Apis(NamedTuple):
    """How requests for each operation are read; the bounds are those of `GatewaySettings`."""

    media_timeout_max_ms: int
    upload_bytes_max: int

    def of(self, envelope: router_pb2.Envelope) -> Api:
        """Return how a request is read and answered; the usual way for what is not known."""
        timeout_max_ms = self.media_timeout_max_ms
        match envelope.operation:
            case router_pb2.OPERATION_COMPLETION:
                return COMPLETIONS
            case router_pb2.OPERATION_EMBEDDING:
                return EMBEDDINGS
            case router_pb2.OPERATION_IMAGE:
                return ImageApi(timeout_max_ms=timeout_max_ms)
            case router_pb2.OPERATION_SPEECH:
                return SpeechApi(timeout_max_ms=timeout_max_ms)
            case router_pb2.OPERATION_TRANSCRIPTION:
                return TranscriptionApi(
                    content_type=envelope.content_type,
                    file_bytes_max=self.upload_bytes_max,
                    timeout_max_ms=timeout_max_ms,
                )
        return CHAT


def body_of(request: router_pb2.RunRequest) -> bytes:
    """Return the request as OpenAI's JSON or form; whether that is right is for the API to say.

    Raises:
        TurnpikeError: `INVALID_VALUE`, `MISSING_FIELD`, `INVALID_JSON` or `UNSUPPORTED_PARAMETER`,
            with `param` naming the field.
    """
    envelope = request.envelope
    for message, name in ((request, "request"), (envelope, "envelope"), (request.chat, "chat")):
        _refuse_unknown(message, name)
    if envelope.operation not in router_pb2.Operation.values():
        raise TurnpikeError(
            Reason.UNSUPPORTED_PARAMETER,
            "The operation is not one that this release knows.",
            param="envelope.operation",
        )
    is_form = envelope.operation == _FORM
    _check_envelope(envelope, {"content_type"} if is_form else _SPELLED.keys())
    is_typed = request.HasField("chat")
    if is_typed and request.body:
        raise _wrong("chat", "body and chat are both there; send one.")
    if is_typed and envelope.operation != router_pb2.OPERATION_UNSPECIFIED:
        raise _wrong("chat", "chat is for chat completions; other operations take body.")
    if not is_typed and not request.body:
        raise TurnpikeError(Reason.MISSING_FIELD, "body or chat is required.", param="body")
    if is_form:
        return request.body
    return _agreed(chat_json(request.chat) if is_typed else request.body, envelope)


def _check_envelope(envelope: router_pb2.Envelope, callers: AbstractSet[str]) -> None:
    for field, _ in envelope.ListFields():
        name = f"envelope.{field.name}"
        if field.name in _SPELLED and field.name not in callers:
            raise _wrong(name, f"{name} has no place beside a form; say it there.")
        if field.name != "operation" and field.name not in callers:
            raise _wrong(name, f"{name} is Turnpike's to fill in.")


def chat_json(chat: chat_pb2.ChatRequest) -> bytes:
    """Return a typed request as OpenAI's JSON.

    Raises:
        TurnpikeError: `INVALID_VALUE` or `INVALID_JSON`, with `param` naming the field.
    """
    fields: dict[str, Any] = {}
    if chat.model:
        fields["model"] = chat.model
    fields["messages"] = [_message(message, at) for at, message in enumerate(chat.messages)]
    for name in ("stream", "max_tokens", "temperature", "top_p"):
        if chat.HasField(name):
            fields[name] = _finite(name, getattr(chat, name))
    if chat.stop:
        fields["stop"] = list(chat.stop)
    if chat.user:
        fields["user"] = chat.user
    if chat.extra_json:
        extra = _extra(chat.extra_json)
        if twice := sorted(extra.keys() & fields.keys()):
            raise _wrong(
                "chat.extra_json", f"{twice[0]} is in chat and in extra_json; give it once."
            )
        fields |= extra
    return encode(fields)


def _message(message: chat_pb2.ChatMessage, at: int) -> dict[str, Any]:
    _refuse_unknown(message, f"chat.messages[{at}]")
    fields: dict[str, Any] = {"role": message.role}
    where = f"chat.messages[{at}].content_json"
    if message.HasField("content"):
        fields["content"] = message.content
        if message.content_json:
            raise _wrong(where, f"{where} and content are both there; send one.")
    elif message.content_json:
        fields["content"] = _parsed(_decode_raw, message.content_json, where)
    if message.tool_calls:
        fields["tool_calls"] = [_tool_call(call) for call in message.tool_calls]
    if message.tool_call_id:
        fields["tool_call_id"] = message.tool_call_id
    if message.name:
        fields["name"] = message.name
    return fields


def _tool_call(call: chat_pb2.ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _agreed(body: bytes, envelope: router_pb2.Envelope) -> bytes:
    """Return the body with what only the envelope says.

    Raises:
        TurnpikeError: `INVALID_VALUE` when both say something different.
    """
    asked = [field.name for field, _ in envelope.ListFields() if field.name in _SPELLED]
    if not asked:
        return body
    try:
        fields = decode_fields(body)
        said = {name: _decode_value(fields.get(_SPELLED[name], b"null")) for name in asked}
    except _UNREADABLE:
        # The API finds the same fault, and has its own words for it.
        return body
    for name in asked:
        value = getattr(envelope, name)
        if said[name] is None:
            fields[_SPELLED[name]] = msgspec.Raw(encode(value))
        elif said[name] != value:
            raise _wrong(
                f"envelope.{name}",
                f"envelope.{name} and the request's {_SPELLED[name]} differ; give one.",
            )
    return encode(fields)


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise _wrong(name, f"{name} is {value}; it must be a finite number.")
    return value


def _extra(data: bytes) -> dict[str, msgspec.Raw]:
    fields: dict[str, msgspec.Raw] = _parsed(decode_fields, data, "chat.extra_json")
    return fields


def _parsed(decode: Any, data: bytes, where: str) -> Any:  # noqa: ANN401 - msgspec's decoders
    try:
        return decode(data)
    except msgspec.ValidationError as error:
        raise _wrong(where, f"{where} must be a JSON object.") from error
    except _UNREADABLE as error:
        raise TurnpikeError(
            Reason.INVALID_JSON, f"{where} is not valid JSON.", param=where
        ) from error


def _refuse_unknown(message: Message, name: str) -> None:
    """Refuse what a newer release's callers may send: protobuf would drop it in silence."""
    if len(UnknownFieldSet(message)):
        raise TurnpikeError(
            Reason.UNSUPPORTED_PARAMETER,
            f"The {name} has a field that this release does not know.",
            param=name,
        )


def _wrong(param: str, message: str) -> TurnpikeError:
    return TurnpikeError(Reason.INVALID_VALUE, message, param=param)
