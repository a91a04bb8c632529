"""A streamed response: chat chunks in, Responses events out; pure.

A stream that breaks ends with `response.failed` and an `error` event: the first is for those who
look at events, the second carries an `error` object as well, which makes OpenAI's SDKs raise.
"""

from typing import Final

import msgspec

from gateway.call import ModelCall
from gateway.errors import error_object, status_of
from gateway.openai.dialect import Dialect
from gateway.openai.schema import encode
from gateway.responses.answer import Head, ending, told, usage_object
from gateway.responses.chunks import Answer, read_answer, service_tier, take
from gateway.responses.output import IN_PROGRESS, Item, Output
from gateway.responses.request import Asked
from kit.errors import Reason, TurnpikeError
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2

OUTPUT_CHARS_MAX: Final = 32 * 1024 * 1024
"""How much of an answer is kept for its last events."""
_PREFIX: Final = b"data: "


class ResponseStream:
    """One streamed response."""

    def __init__(self, call: ModelCall, asked: Asked, request_id: str) -> None:
        self._call = call
        self._asked = asked
        self._request_id = request_id
        self._count = 0
        self._written: list[bytes] = []
        self._response: Item = {}
        self._output = Output(self._emit, request_id)

    def begin(self, usage: usage_pb2.TokenUsage | None) -> None:
        """Take the first running totals, which no event of a response tells."""

    def feed(self, sse: bytes) -> bytes:
        """Return the events for these chunks.

        Raises:
            TurnpikeError: `UPSTREAM_INVALID_RESPONSE`: they hold something that is no chunk, or
                the answer is too long.
        """
        self._take_events(sse)
        if self._output.size > OUTPUT_CHARS_MAX:
            raise _invalid("The upstream's answer is longer than any answer may be.")
        return self._flush()

    def end(self, sse: bytes, finish: router_pb2.Finish) -> bytes:
        """Return the last events, for the last chunks and the finish."""
        self._take_events(sse)
        for chunk in finish.finish_chunks:
            self._take(chunk)
        status, details = ending(finish.finish_reason)
        self._response |= {
            "output": self._output.close(status),
            "status": status,
            "incomplete_details": details,
            "usage": usage_object(finish.usage),
        }
        self._emit(f"response.{status}", response=self._response)
        return self._flush()

    def fail(self, error: TurnpikeError, dialect: Dialect) -> bytes:
        """Return the events that end a broken stream."""
        if self._response:
            told_error = {"code": _code(error), "message": error.message}
            self._response |= {
                "output": self._output.broken(),
                "status": "failed",
                "error": told_error,
            }
            self._emit("response.failed", response=self._response)
        return self._flush() + error_event(error, dialect, self._request_id, number=self._count)

    def _take_events(self, sse: bytes) -> None:
        for event in sse.split(b"\n\n"):
            if event:
                self._take(event.removeprefix(_PREFIX))

    def _take(self, chunk: bytes) -> None:
        try:
            answer = read_answer(chunk)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise _invalid("The upstream's stream holds something that is no chunk.") from error
        if not self._response:
            self._begin(answer)
        if (tier := service_tier(answer)) is not None:
            self._response["service_tier"] = tier
        for choice in answer.choices:
            take(choice, self._output)

    def _begin(self, answer: Answer) -> None:
        head = Head(self._request_id, answer.created, answer.model)
        self._response = told(head, self._call, self._asked)
        self._emit("response.created", response=self._response)
        self._emit(f"response.{IN_PROGRESS}", response=self._response)

    def _emit(self, kind: str, **members: object) -> None:
        self._written.append(_event(kind, self._count, members))
        self._count += 1

    def _flush(self) -> bytes:
        events = b"".join(self._written)
        self._written.clear()
        return events


def error_event(error: TurnpikeError, dialect: Dialect, request_id: str, *, number: int) -> bytes:
    """Return the last event of a broken stream; `number` is its place among all."""
    members: dict[str, object] = {
        "code": error.reason.value.lower(),
        "message": error.message,
        "param": error.metadata.get("param"),
        "error": error_object(error, dialect, request_id),
    }
    return _event("error", number, members)


def _event(kind: str, number: int, members: dict[str, object]) -> bytes:
    data = encode({"type": kind, "sequence_number": number, **members})
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def _code(error: TurnpikeError) -> str:
    """Return what `response.error.code` says of an error, in its few words."""
    status = status_of(error)
    if status == 429:
        return "rate_limit_exceeded"
    return "server_error" if status >= 500 else "invalid_prompt"


def _invalid(message: str) -> TurnpikeError:
    return TurnpikeError(Reason.UPSTREAM_INVALID_RESPONSE, message)
