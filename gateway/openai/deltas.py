"""OpenAI's chunks and whole answers as typed deltas, for callers who do not read JSON; pure."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from kit.errors import Reason, TurnpikeError
from kit.sse import events
from turnpike.router.v1 import chat_pb2

_DONE: Final = b"[DONE]"


class _Function(msgspec.Struct):
    name: Any = None
    arguments: Any = None


class _ToolCall(msgspec.Struct):
    function: _Function = msgspec.field(default_factory=_Function)
    index: int | None = None
    id: Any = None


class _Message(msgspec.Struct):
    """A delta of a chunk or the message of a whole answer: they have the same fields."""

    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
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
        tool_calls=[
            chat_pb2.ToolCall(
                index=place if call.index is None else call.index,
                id=_text(call.id),
                name=_text(call.function.name),
                arguments=_text(call.function.arguments),
            )
            for place, call in enumerate(said.tool_calls or ())
        ],
        finish_reason=_text(choice.finish_reason),
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
