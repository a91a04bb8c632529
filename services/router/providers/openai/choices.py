"""What a choice of OpenAI's always has and never has, and how an upstream's is brought to that.

Pure. Engines leave out members that are null at OpenAI and write out members that OpenAI leaves
out; clients that check types stumble over both. Source: OpenAI's OpenAPI document, the schemas
`CreateChatCompletionResponse` and `CreateChatCompletionStreamResponse` (read 2026-11).
"""

from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec

NULL: Final = msgspec.Raw(b"null")
ABSENT: Final = msgspec.Raw()
"""Stands for a member that a choice does not have."""

Fields = dict[str, msgspec.Raw]
Name = Annotated[str, msgspec.Meta(min_length=1)]
_ASSISTANT: Final = msgspec.Raw(b'"assistant"')
_FUNCTION: Final = msgspec.Raw(b'"function"')
_NEVER_NULL: Final = ("role", "tool_calls", "function_call", "annotations")
"""What a message or a delta has with a value or not at all."""

_NULL_MEMBERS: Final = tuple(b'"%b":null' % name.encode() for name in _NEVER_NULL)
_BARE_LOGPROBS: Final = b'"logprobs":{"content":'
_FULL_LOGPROBS: Final = b'"logprobs":{"refusal":null,"content":'
_REFUSAL: Final = b'"refusal":'
_MESSAGE: Final = b'"message":{'
"""Not to be found within a text, where quotes are escaped."""

_WITH_REFUSAL: Final = b'"message":{"refusal":null,'
_WITH_BOTH: Final = b'"logprobs":null,' + _WITH_REFUSAL


class _Function(msgspec.Struct):
    name: Name
    arguments: str


class _Custom(msgspec.Struct):
    name: Name
    input: str


class _ToolCall(msgspec.Struct, omit_defaults=True):
    id: str
    type: Literal["function", "custom"] | None = None
    function: _Function | None = None
    custom: _Custom | None = None


class _Message(msgspec.Struct):
    role: msgspec.Raw = ABSENT
    content: msgspec.Raw = ABSENT
    refusal: msgspec.Raw = ABSENT
    tool_calls: list[_ToolCall] | msgspec.UnsetType | None = msgspec.UNSET
    function_call: _Function | msgspec.UnsetType | None = msgspec.UNSET
    annotations: msgspec.Raw = ABSENT


class ChatChoice(msgspec.Struct):
    """A choice of a whole chat completion; index -1 stands for none."""

    finish_reason: str
    message: _Message
    index: int = -1
    logprobs: msgspec.Raw = ABSENT

    @property
    def said(self) -> tuple[msgspec.Raw, ...]:
        """The JSON values that its tokens are guessed from."""
        calls = self.message.tool_calls or ()
        return (self.message.content, *(msgspec.Raw(msgspec.json.encode(call)) for call in calls))


_decode_choices: Final = msgspec.json.Decoder(list[ChatChoice]).decode
_decode_fields: Final = msgspec.json.Decoder(Fields).decode
_decode_list: Final = msgspec.json.Decoder(list[Fields]).decode
_encode: Final = msgspec.json.encode


def chat_choices(raw: bytes) -> list[ChatChoice]:
    """Return the choices of a whole chat completion.

    Raises:
        msgspec.DecodeError: They are none, or one calls a tool in a way that nobody can follow.
    """
    choices = _decode_choices(raw)
    for choice in choices:
        for call in choice.message.tool_calls or ():
            if (call.custom if call.type == "custom" else call.function) is None:
                raise msgspec.ValidationError("A tool call does not say what it calls.")
    return choices


def completed(raw: msgspec.Raw, read: Sequence[ChatChoice]) -> msgspec.Raw:
    """Return the choices of a whole chat completion with all that OpenAI's have.

    `read` are the same choices. Those that have it all are kept byte for byte, those that lack
    only what is null are not taken apart.

    Raises:
        msgspec.DecodeError: The log probabilities are none.
    """
    repaired = _repaired(read[0]) if read else _MESSAGE
    for other in read[1:]:
        if _repaired(other) is not repaired:
            repaired = None
    if repaired is _MESSAGE:
        return raw
    text = bytes(raw)
    if repaired is not None and text.count(_MESSAGE) == len(read):
        return msgspec.Raw(text.replace(_MESSAGE, repaired))
    choices = _decode_list(text)
    for place, choice in enumerate(choices):
        message = _decode_fields(choice["message"])
        _drop_nulls(message)
        if "tool_calls" in message:
            _complete_calls(message)
        whole = {"role": _ASSISTANT, "content": NULL, "refusal": NULL, **message}
        choice["message"] = msgspec.Raw(_encode(whole))
        choice["logprobs"] = with_refusal(choice.get("logprobs", NULL))
        choice.setdefault("index", msgspec.Raw(b"%d" % place))
    return msgspec.Raw(_encode(choices))


def complete_chunk(choice: Fields, always: Fields) -> None:
    """Put what is missing into a choice of a chunk, and take out what is never null.

    Raises:
        msgspec.DecodeError: It is no choice.
    """
    for name, value in always.items():
        choice.setdefault(name, value)
    if "delta" not in choice:
        return
    delta = _decode_fields(choice["delta"])
    if _drop_nulls(delta):
        choice["delta"] = msgspec.Raw(_encode(delta))
    if "logprobs" in choice:
        choice["logprobs"] = with_refusal(choice["logprobs"])


def has_null_members(sse: bytes) -> bool:
    """Return whether events have members in their deltas that are never null."""
    return any(sse.find(member) >= 0 for member in _NULL_MEMBERS)


def without_null_members(sse: bytes) -> bytes:
    """Return events without the members of deltas that are never null."""
    for member in _NULL_MEMBERS:
        if sse.find(member) >= 0:
            sse = sse.replace(member + b",", b"").replace(b"," + member, b"").replace(member, b"")
    return sse


def with_refusals(sse: bytes) -> bytes:
    """Return events whose log probabilities say that they are of no refusal."""
    if sse.find(_BARE_LOGPROBS) < 0 or sse.find(_REFUSAL) >= 0:
        return sse
    return sse.replace(_BARE_LOGPROBS, _FULL_LOGPROBS)


def with_refusal(logprobs: msgspec.Raw) -> msgspec.Raw:
    """Return log probabilities in which `content` and `refusal` stand, or null.

    Raises:
        msgspec.DecodeError: They are neither an object nor null.
    """
    if logprobs == NULL:
        return logprobs
    found = _decode_fields(logprobs)
    if "content" in found and "refusal" in found:
        return logprobs
    return msgspec.Raw(_encode({"content": NULL, "refusal": NULL, **found}))


def _repaired(choice: ChatChoice) -> bytes | None:
    """Return what has to stand for the start of a choice's message; None if that is not enough."""
    message, logprobs = choice.message, choice.logprobs
    if (
        choice.index < 0
        or message.content is ABSENT
        or message.role is ABSENT
        or not (message.tool_calls is msgspec.UNSET or _are_whole(message.tool_calls))
        or message.function_call is None
        or (message.annotations is not ABSENT and message.annotations == NULL)
    ):
        return None
    if message.refusal is not ABSENT:
        return _MESSAGE if logprobs == NULL or _REFUSAL in bytes(logprobs) else None
    if logprobs is ABSENT:
        return _WITH_BOTH
    return _WITH_REFUSAL if logprobs == NULL else None


def _are_whole(calls: list[_ToolCall] | None) -> bool:
    return bool(calls) and all(call.type for call in calls or ())


def _drop_nulls(said: Fields) -> bool:
    """Take out what is never null; whether there was anything."""
    names = [name for name in _NEVER_NULL if said.get(name) == NULL]
    for name in names:
        del said[name]
    return bool(names)


def _complete_calls(message: Fields) -> None:
    calls = _decode_list(message["tool_calls"])
    if not calls:
        del message["tool_calls"]
        return
    for call in calls:
        if call.get("type", NULL) == NULL:
            call["type"] = _FUNCTION
    message["tool_calls"] = msgspec.Raw(_encode(calls))
