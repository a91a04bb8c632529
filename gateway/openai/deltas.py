"""OpenAI's chunks and whole answers as typed deltas, for callers who do not read JSON; pure."""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final

import msgspec

from kit.errors import Reason, TurnpikeError
from kit.sse import events
from turnpike.router.v1 import chat_pb2

_DONE: Final = b"[DONE]"
_INDEX_MAX: Final = 2**31 - 1
_Index = Annotated[int, msgspec.Meta(ge=0, le=_INDEX_MAX)]


class _Message(msgspec.Struct):
    """A delta of a chunk or the message of a whole answer: they have the same fields.

    The router has looked at their structure; a field of another type than OpenAI's tells nothing.
    """

    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    tool_calls: Any = None


class _Choice(msgspec.Struct):
    index: _Index = 0
    delta: _Message | None = None
    message: _Message | None = None
    finish_reason: Any = None


class _Answer(msgspec.Struct):
    choices: list[_Choice]


_decode = msgspec.json.Decoder(_Answer).decode


def deltas_of_events(sse: bytes) -> Iterator[chat_pb2.ChatDelta]:
    """Yield what the choices gain by complete events; a chunk that tells nothing yields nothing.

    Raises:
        TurnpikeError: `UPSTREAM_INVALID_RESPONSE` for what is no chunk.
    """
    return deltas_of(event.data for event in events(sse) if event.data != _DONE)


def deltas_of(answers: Iterable[bytes]) -> Iterator[chat_pb2.ChatDelta]:
    """Yield what the choices gain by chunks or whole answers.

    Raises:
        TurnpikeError: `UPSTREAM_INVALID_RESPONSE` for what is neither.
    """
    for data in answers:
        try:
            choices = _decode(data).choices
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise TurnpikeError(
                Reason.UPSTREAM_INVALID_RESPONSE, "The provider sent an answer that is none."
            ) from error
        for choice in choices:
            delta = _delta(choice)
            if delta.ListFields():
                delta.choice = choice.index
                yield delta


def _delta(choice: _Choice) -> chat_pb2.ChatDelta:
    said = choice.delta or choice.message or _Message()
    return chat_pb2.ChatDelta(
        text=_text(said.content),
        reasoning=_text(said.reasoning_content) or _text(said.reasoning),
        refusal=_text(said.refusal),
        tool_calls=_tool_calls(said.tool_calls),
        finish_reason=_text(choice.finish_reason),
    )


def _tool_calls(value: object) -> list[chat_pb2.ToolCall]:
    calls = [call for call in value if isinstance(call, dict)] if isinstance(value, list) else []
    found = []
    for place, call in enumerate(calls):
        index, function = call.get("index"), call.get("function")
        named = function if isinstance(function, dict) else {}
        found.append(
            chat_pb2.ToolCall(
                index=index if isinstance(index, int) and 0 <= index <= _INDEX_MAX else place,
                id=_text(call.get("id")),
                name=_text(named.get("name")),
                arguments=_text(named.get("arguments")),
            )
        )
    return found


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
