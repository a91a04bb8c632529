"""What the fake of Anthropic's API answers: blocks of content, and how they are sent; pure.

Every piece of a block is a token. The same script makes a stream and a whole answer.
"""

import json
from dataclasses import dataclass, field
from typing import Any

MODEL = "claude-fake"


@dataclass(frozen=True, slots=True)
class Say:
    """One block: text, thinking, redacted_thinking or tool_use, in pieces."""

    kind: str
    pieces: tuple[str, ...] = ()
    signature: str = ""
    id: str = ""
    name: str = ""

    @property
    def whole(self) -> str:
        return "".join(self.pieces)


def text(*pieces: str) -> Say:
    return Say("text", pieces)


def thinking(*pieces: str, signature: str = "sig") -> Say:
    return Say("thinking", pieces, signature)


def redacted(data: str) -> Say:
    return Say("redacted_thinking", (data,))


def tool(call_id: str, name: str, *pieces: str) -> Say:
    return Say("tool_use", pieces, id=call_id, name=name)


def numbered(count: int) -> Say:
    """A text of so many pieces."""
    return text(*(f"tok{index} " for index in range(count)))


@dataclass(frozen=True, slots=True)
class Script:
    """One answer; -1 and "" mean: as usual."""

    says: tuple[Say, ...] = (text("Hello", " there"),)
    stop_reason: str | None = "end_turn"
    input_tokens: int = 12
    cache_read: int = 0
    cache_written: int = 0
    is_interleaved: bool = False  # blocks grow at the same time
    pings: int = 1
    usage: str = "end"  # end running never negative absurd
    split: int = 0  # bytes per write; 0: an event per write
    is_joined: bool = False  # the whole body in one write
    delay_ms: int = 0  # between events
    line: str = "\n"
    has_message_stop: bool = True
    has_blank_end: bool = True
    cut_after: int = -1  # events after which the connection is cut
    cut: str = "fin"  # fin rst
    is_halved: bool = False  # a whole answer is cut in its middle
    hang_after: int = -1  # events after which nothing comes any more
    error_after: int = -1  # events after which an error comes
    error: str = ""  # the type of an error
    message: str = "secret prompt text"
    error_code: str = ""
    junk_after: int = -1  # events after which comes something that is no event
    status: int = 200
    retry_after: str = ""
    body: str = ""  # junk html empty list deep: what comes in the place of an answer
    extra: dict[str, Any] = field(default_factory=dict)  # more members of a whole answer

    @property
    def output_tokens(self) -> int:
        return sum(len(say.pieces) for say in self.says) + 1

    @property
    def thinking_tokens(self) -> int:
        return sum(len(say.pieces) for say in self.says if "thinking" in say.kind)


def usage_of(script: Script, output_tokens: int) -> dict[str, Any]:
    """Return the usage object of an answer with so many tokens."""
    usage: dict[str, Any] = {
        "input_tokens": script.input_tokens,
        "cache_creation_input_tokens": script.cache_written,
        "cache_read_input_tokens": script.cache_read,
        "output_tokens": {"negative": -1, "absurd": 10**18}.get(script.usage, output_tokens),
    }
    if script.thinking_tokens:
        usage["output_tokens_details"] = {"thinking_tokens": script.thinking_tokens}
    return usage


def message_of(script: Script) -> dict[str, Any]:
    """Return a whole answer."""
    return {
        **_head(script),
        "content": [_block(say) for say in script.says],
        "stop_reason": script.stop_reason,
        "usage": usage_of(script, script.output_tokens),
        **script.extra,
    }


def error_of(script: Script) -> dict[str, Any]:
    """Return an error object."""
    error: dict[str, Any] = {"type": script.error, "message": script.message}
    if script.error_code:
        error["details"] = {"error_code": script.error_code}
    return {"type": "error", "error": error, "request_id": "req_fake"}


def events_of(script: Script) -> list[dict[str, Any]]:
    """Return the events of a stream."""
    start = {**_head(script), "content": [], "stop_reason": None, "usage": usage_of(script, 1)}
    start["usage"].pop("output_tokens_details", None)
    found: list[dict[str, Any]] = [{"type": "message_start", "message": start}]
    found += [{"type": "ping"}] * script.pings
    found += _interleaved(script) if script.is_interleaved else _in_order(script)
    if script.stop_reason is not None:
        delta = {"stop_reason": script.stop_reason, "stop_sequence": None}
        end: dict[str, Any] = {"type": "message_delta", "delta": delta}
        if script.usage != "never":
            end["usage"] = usage_of(script, script.output_tokens)
        found.append(end)
    if script.has_message_stop:
        found.append({"type": "message_stop"})
    if script.error_after >= 0:
        found[script.error_after :] = [error_of(script)]
    return found


def framed(event: dict[str, Any], line: str = "\n") -> bytes:
    """Return an event as it is sent."""
    data = dumps(event).decode()
    return f"event: {event['type']}{line}data: {data}{line}{line}".encode()


def dumps(value: object) -> bytes:
    """Return compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def odd_body(script: Script) -> bytes:
    """Return a body that is no answer."""
    return {
        "junk": b'{"id": oops',
        "html": b"<html>secret prompt text</html>",
        "empty": b"",
        "list": b"[1,2]",
        "deep": b'{"content":' + b"[" * 100_000,
        "error": dumps(error_of(script)),
    }[script.body]


def _head(script: Script) -> dict[str, Any]:
    return {
        "id": "msg_fake",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "stop_sequence": None,
        "stop_details": None,
    }


def _block(say: Say) -> dict[str, Any]:
    if say.kind == "tool_use":
        whole = json.loads(say.whole or "{}")
        return {"type": say.kind, "id": say.id, "name": say.name, "input": whole}
    if say.kind == "thinking":
        return {"type": say.kind, "thinking": say.whole, "signature": say.signature}
    if say.kind == "redacted_thinking":
        return {"type": say.kind, "data": say.whole}
    return {"type": say.kind, "text": say.whole}


def _start(index: int, say: Say) -> dict[str, Any]:
    empty = Say(say.kind, id=say.id, name=say.name)
    block = _block(say if say.kind == "redacted_thinking" else empty)
    return {"type": "content_block_start", "index": index, "content_block": block}


def _deltas(index: int, say: Say) -> list[dict[str, Any]]:
    kind, member = {
        "text": ("text_delta", "text"),
        "thinking": ("thinking_delta", "thinking"),
        "tool_use": ("input_json_delta", "partial_json"),
    }.get(say.kind, ("", ""))
    deltas = [{"type": kind, member: piece} for piece in say.pieces if kind]
    if say.kind == "thinking" and say.signature:
        deltas.append({"type": "signature_delta", "signature": say.signature})
    return [{"type": "content_block_delta", "index": index, "delta": each} for each in deltas]


def _stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def _in_order(script: Script) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    count = 0
    for index, say in enumerate(script.says):
        found += [_start(index, say), *_deltas(index, say), _stop(index)]
        count += len(say.pieces)
        if script.usage == "running":
            usage = usage_of(script, count)
            delta = {"stop_reason": None, "stop_sequence": None}
            found.append({"type": "message_delta", "delta": delta, "usage": usage})
    return found


def _interleaved(script: Script) -> list[dict[str, Any]]:
    found = [_start(index, say) for index, say in enumerate(script.says)]
    waiting = [_deltas(index, say) for index, say in enumerate(script.says)]
    while any(waiting):
        found += [deltas.pop(0) for deltas in waiting if deltas]
    return found + [_stop(index) for index in range(len(script.says))]
