"""What the fake Gemini upstream answers: parts with their tokens, and what goes wrong."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
SIGNATURE = base64.b64encode(b"\x01\xffan opaque thought signature").decode()


@dataclass(frozen=True, slots=True)
class Said:
    """One part of an answer, and how many tokens it costs."""

    part: Json
    tokens: int = 2

    @property
    def is_thought(self) -> bool:
        return bool(self.part.get("thought"))


@dataclass(frozen=True, slots=True)
class Script:
    """One answer. Counts of events are of those with parts; -1 means never."""

    said: tuple[Said, ...] = (Said({"text": "Hello"}), Said({"text": ", world"}))
    finish: str = "STOP"
    prompt_tokens: int = 12
    cached_tokens: int = 0
    tool_tokens: int = 0
    usage: str = "every"  # every last never
    finish_in: str = "own"  # own: an event of its own; last: with the last part; never
    status: int = 200
    error: Any = None  # the body of a refusal
    block_reason: str = ""
    error_after: int = -1  # an error event after so many
    raw_error_after: int = -1  # the same, not as an event
    junk_after: int = -1
    cut_after: int = -1  # the connection ends
    end_after: int = -1  # the body ends
    hang_after: int = -1
    delay_ms: int = 0  # between events
    split: int = 0  # bytes per write; 0: an event per write
    line: str = "\r\n"
    retry_after: str = ""
    headers: Json = field(default_factory=dict)
    events_joined: int = 1  # parts per event


def text(*pieces: str, **more: Any) -> Script:
    return Script(said=tuple(Said({"text": piece}) for piece in pieces), **more)


def calls(*named: tuple[str, Json | None], signature: str = SIGNATURE, **more: Any) -> Script:
    """Parallel function calls; the first one has the signature, as Gemini 3 does it."""
    said = []
    for index, (name, arguments) in enumerate(named):
        called: Json = {"name": name}
        if arguments is not None:
            called["args"] = arguments
        part: Json = {"functionCall": called}
        if signature and index == 0:
            part["thoughtSignature"] = signature
        said.append(Said(part, tokens=5))
    return Script(said=tuple(said), **more)


def thoughts(*pieces: str) -> tuple[Said, ...]:
    return tuple(Said({"text": piece, "thought": True}, tokens=3) for piece in pieces)


def status(code: int, name: str, message: str = "secret text", *details: Json) -> Json:
    error: Json = {"code": code, "message": message, "status": name}
    if details:
        error["details"] = list(details)
    return {"error": error}


def usage_after(script: Script, count: int) -> Json:
    """Return the running totals after so many parts."""
    said = script.said[:count]
    thought = sum(one.tokens for one in said if one.is_thought)
    spoken = sum(one.tokens for one in said if not one.is_thought)
    found: Json = {"promptTokenCount": script.prompt_tokens}
    if spoken or not thought:
        found["candidatesTokenCount"] = spoken
    if script.cached_tokens:
        found["cachedContentTokenCount"] = script.cached_tokens
    if script.tool_tokens:
        found["toolUsePromptTokenCount"] = script.tool_tokens
    if thought:
        found["thoughtsTokenCount"] = thought
    found["totalTokenCount"] = script.prompt_tokens + script.tool_tokens + thought + spoken
    return found


def events_of(script: Script) -> Iterator[Json]:
    """Yield the events of a stream."""
    if script.block_reason:
        yield _blocked(script)
        return
    step = max(1, script.events_joined)
    for start in range(0, len(script.said), step):
        stop = min(start + step, len(script.said))
        is_last = stop == len(script.said)
        reason = script.finish if is_last and script.finish_in == "last" else ""
        parts = [one.part for one in script.said[start:stop]]
        has_usage = script.usage == "every" or (script.usage == "last" and bool(reason))
        yield _event(script, parts, stop, reason, has_usage=has_usage)
    if script.finish_in == "own":
        has_usage = script.usage != "never"
        yield _event(script, [], len(script.said), script.finish, has_usage=has_usage)


def whole_of(script: Script) -> Json:
    """Return a whole answer: texts that follow each other are one part."""
    if script.block_reason:
        return _blocked(script)
    parts: list[Json] = []
    for one in script.said:
        last = parts[-1] if parts else {}
        is_more = "text" in one.part and "text" in last and "thoughtSignature" not in last
        if is_more and one.is_thought == bool(last.get("thought")):
            parts[-1] = {**last, **one.part, "text": last["text"] + one.part["text"]}
        else:
            parts.append(dict(one.part))
    reason = "" if script.finish_in == "never" else script.finish
    count = len(script.said)
    return _event(script, parts, count, reason, has_usage=script.usage != "never")


def dumps(value: object) -> bytes:
    """Return JSON with the layout that Google's servers give it."""
    return json.dumps(value, indent=2, ensure_ascii=False).encode()


def event_bytes(value: Json, line: str) -> bytes:
    body = json.dumps(value, separators=(",", ": "), ensure_ascii=False).encode()
    return b"data: " + body + line.encode() * 2


def _event(script: Script, parts: list[Json], count: int, reason: str, *, has_usage: bool) -> Json:
    candidate: Json = {"index": 0}
    if parts:
        candidate["content"] = {"parts": parts, "role": "model"}
    if reason:
        candidate["finishReason"] = reason
    found: Json = {"candidates": [candidate]}
    if has_usage:
        found["usageMetadata"] = usage_after(script, count)
    return found | {"modelVersion": "gemini-fake", "responseId": "response-1"}


def _blocked(script: Script) -> Json:
    return {
        "promptFeedback": {"blockReason": script.block_reason},
        "usageMetadata": {
            "promptTokenCount": script.prompt_tokens,
            "totalTokenCount": script.prompt_tokens,
        },
        "modelVersion": "gemini-fake",
    }
