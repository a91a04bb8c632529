"""From chat chunks to the events of a streamed message; pure.

`message_start` must tell the input tokens before most upstreams have counted them: it carries the
upstream's exact count when the first batch has one (Triton, running totals), else an estimate by
size, and `output_tokens` 0. `message_delta` carries the exact usage of the whole answer, input
included, which is what was charged; clients that follow the protocol take that.

One block is open at a time. A tool call's block stays open until its input is whole and another
call begins; until then the pieces of later calls are kept back, so that calls whose pieces come
mixed are told apart. Source: "Streaming messages" of the Messages API.
"""

from typing import Any, Final

import msgspec

from gateway.anthropic.answer import (
    Call,
    Choice,
    Said,
    arguments_of,
    call_id_of,
    invalid,
    is_object,
    opening,
    stop_of,
    text_of,
    usage_object,
)
from gateway.openai.tolerance import plain_json
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2

HELD_CHARS_MAX: Final = 1024 * 1024
"""Input of later tool calls that is kept back while an earlier one is not whole."""

_DATA: Final = b"data: "
_STOP: Final = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_encode = msgspec.json.encode


class _Chunk(msgspec.Struct):
    choices: list[Choice]
    model: str = ""


_decode = msgspec.json.Decoder(_Chunk).decode


class _Tool(msgspec.Struct, eq=False):
    """A tool call; `pending` is what of its input was not sent yet.

    `is_whole` tells whether what was sent is a whole object; None when nobody has looked.
    """

    number: int
    id: str = ""
    name: str = ""
    sent: list[str] = msgspec.field(default_factory=list)
    pending: str = ""
    is_open: bool = False
    is_whole: bool | None = None


class MessageStream:
    """Spells one streamed answer; see `gateway.call.StreamShape`."""

    def __init__(self, request_id: str, prompt_tokens: int, stop_sequences: list[str]) -> None:
        """`prompt_tokens` is the estimate that is sent when the upstream has not counted."""
        self._request_id = request_id
        self._stop_sequences = stop_sequences
        self._usage = usage_object(prompt_tokens, 0, cached=0, reasoning=0)
        self._has_started = False
        self._index = 0
        self._open_kind = ""
        self._by_index: dict[int, _Tool] = {}
        self._tools: list[_Tool] = []
        self._tool_count = 0

    def begin(self, usage: usage_pb2.TokenUsage | None) -> None:
        """Take the totals of the first batch, if the upstream keeps any."""
        if usage is not None and usage.prompt_token_count:
            cached = usage.cached_prompt_token_count
            self._usage = usage_object(usage.prompt_token_count, 0, cached=cached, reasoning=0)

    def feed(self, sse: bytes) -> bytes:
        """Return the events for these chunks.

        Raises:
            TurnpikeError: `UPSTREAM_INVALID_RESPONSE`: a chunk is not of the usual form.
        """
        out: list[bytes] = []
        for event in sse.split(b"\n\n"):
            if event.startswith(_DATA):
                self._take(_chunk(event[len(_DATA) :]), out)
        return b"".join(out)

    def end(self, sse: bytes, finish: router_pb2.Finish) -> bytes:
        """Return the last events; see `feed`."""
        out = [self.feed(sse)]
        last = [_chunk(data) for data in finish.finish_chunks]
        for chunk in last:
            self._start(chunk, out)
        self._close_all(out)
        found = (choice for chunk in last for choice in chunk.choices if choice.index == 0)
        choice = next(found, Choice(finish_reason=finish.finish_reason))
        reason, sequence = stop_of(choice, self._stop_sequences, has_calls=self._tool_count > 0)
        delta = {"stop_reason": reason, "stop_sequence": sequence}
        out.append(_event("message_delta", {"delta": delta, "usage": _usage(finish.usage)}))
        out.append(_STOP)
        return b"".join(out)

    def _take(self, chunk: _Chunk, out: list[bytes]) -> None:
        self._start(chunk, out)
        for choice in chunk.choices:
            if choice.index == 0 and choice.delta is not None:
                self._say(choice.delta, out)

    def _start(self, chunk: _Chunk, out: list[bytes]) -> None:
        if self._has_started:
            return
        self._has_started = True
        message = {
            **opening(self._request_id, chunk.model),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": self._usage,
        }
        out.append(_event("message_start", {"message": message}))

    def _say(self, said: Said, out: list[bytes]) -> None:
        if thought := text_of(said.reasoning_content):
            self._enter("thinking", {"thinking": "", "signature": ""}, out)
            self._delta(b'"thinking_delta","thinking":', thought, out)
        for text in (text_of(said.content), text_of(said.refusal)):
            if text:
                self._enter("text", {"text": ""}, out)
                self._delta(b'"text_delta","text":', text, out)
        for piece in said.tool_calls or ():
            self._call(piece, out)

    def _enter(self, kind: str, empty: dict[str, Any], out: list[bytes]) -> None:
        """Open a block of this kind unless it is the open one."""
        if self._open_kind != kind:
            self._close_all(out)
            self._open(kind, empty, out)

    def _open(self, kind: str, block: dict[str, Any], out: list[bytes]) -> None:
        self._open_kind = kind
        content = {"type": kind, **block}
        out.append(_event("content_block_start", {"index": self._index, "content_block": content}))

    def _delta(self, head: bytes, text: str, out: list[bytes]) -> None:
        out.append(
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
            b'"delta":{"type":%b%b}}\n\n' % (self._index, head, _encode(text))
        )

    def _close(self, out: list[bytes]) -> None:
        if self._open_kind:
            out.append(_event("content_block_stop", {"index": self._index}))
            self._open_kind = ""
            self._index += 1

    def _close_all(self, out: list[bytes]) -> None:
        """Send what was kept back and close what is open."""
        for tool in self._tools:
            self._send(tool, out)
            self._close(out)
        self._tools.clear()
        self._close(out)

    def _call(self, piece: Call, out: list[bytes]) -> None:
        index = piece.index or 0
        tool = self._by_index.get(index)
        # Some upstreams number every call 0: another id is another call.
        if tool is None or (piece.id and tool.id and piece.id != tool.id):
            tool = self._by_index[index] = _Tool(self._tool_count)
            self._tool_count += 1
            self._tools.append(tool)
        tool.id = tool.id or piece.id or ""
        if piece.function is not None:
            tool.name = tool.name or piece.function.name or ""
        arguments = arguments_of(piece.function)
        if tool not in self._tools:
            if arguments.strip():
                raise invalid()
            return
        tool.pending += arguments
        if sum(len(later.pending) for later in self._tools[1:]) > HELD_CHARS_MAX:
            raise invalid()
        self._advance(out)

    def _advance(self, out: list[bytes]) -> None:
        """Send what there is of the first unfinished call; go on to the next when it is whole."""
        while self._tools:
            tool = self._tools[0]
            if not tool.name:
                return
            self._send(tool, out)
            if len(self._tools) == 1 or not _is_whole(tool):
                return
            self._close(out)
            del self._tools[0]

    def _send(self, tool: _Tool, out: list[bytes]) -> None:
        if not tool.name:
            raise invalid()
        if not tool.is_open:
            self._close(out)
            tool.is_open = True
            call_id = tool.id or call_id_of(self._request_id, tool.number)
            self._open("tool_use", {"id": call_id, "name": tool.name, "input": {}}, out)
        if tool.pending:
            self._delta(b'"input_json_delta","partial_json":', tool.pending, out)
            tool.sent.append(tool.pending)
            tool.pending = ""
            tool.is_whole = None


def _is_whole(tool: _Tool) -> bool:
    if tool.is_whole is None:
        # Looking at all of it for each piece would cost its square.
        last = next((piece for piece in reversed(tool.sent) if piece.strip()), "")
        tool.is_whole = last.rstrip().endswith("}") and is_object("".join(tool.sent))
    return tool.is_whole


def _chunk(data: bytes) -> _Chunk:
    try:
        try:
            return _decode(data)
        except msgspec.DecodeError:
            return _decode(plain_json(data))
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise invalid() from error


def _usage(usage: usage_pb2.TokenUsage) -> dict[str, Any]:
    return usage_object(
        usage.prompt_token_count,
        usage.completion_token_count,
        cached=usage.cached_prompt_token_count,
        reasoning=usage.reasoning_token_count,
    )


def _event(name: str, fields: dict[str, Any]) -> bytes:
    data = _encode({"type": name, **fields})
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)
