"""Amazon Bedrock's Converse on real sockets, scripted.

In a test: `async with open_bedrock_upstream() as upstream`, and `upstream.script` says what the
next answers are.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.aws_server import (
    AwsServer,
    Frames,
    Seen,
    Whole,
    open_aws_server,
    refusal,
)
from tests.fakes.event_stream import event, exception


@dataclass(frozen=True, slots=True)
class Said:
    """A block of an answer: `kind` is text, tool, thought or redacted; `pieces` are its deltas."""

    kind: str
    pieces: tuple[str, ...]
    id: str = ""
    name: str = ""
    signature: str = ""


def text(*pieces: str) -> Said:
    return Said("text", pieces)


def tool(call_id: str, name: str, *pieces: str) -> Said:
    return Said("tool", pieces, id=call_id, name=name)


def thought(*pieces: str, signature: str = "") -> Said:
    return Said("thought", pieces, signature=signature)


@dataclass(slots=True)
class Script:
    """One answer.

    `error` refuses the request; `exception` ends the stream before the message of number
    `fail_at`, `fail` breaks it there (cut, junk, hang); a whole answer is cut, or junk, as well.
    """

    said: tuple[Said, ...] = (text("Hel", "lo ", "wörld"),)
    stop_reason: str = "end_turn"
    prompt: int = 12
    read: int = 0
    written: int = 0
    total: int = -1
    has_metadata: bool = True
    error: str = ""
    status: int = 400
    message: str = "secret prompt text"
    exception: str = ""
    fail: str = ""
    fail_at: int = -1
    split: int = 0
    delay_ms: int = 0

    @property
    def usage(self) -> dict[str, int]:
        """What is reported: a token for each piece."""
        output = sum(max(1, len(block.pieces)) for block in self.said)
        found = {"inputTokens": self.prompt, "outputTokens": output}
        total = self.prompt + output + self.read + self.written
        found["totalTokens"] = total if self.total < 0 else self.total
        if self.read or self.written:
            found |= {"cacheReadInputTokens": self.read, "cacheWriteInputTokens": self.written}
        return found

    def whole(self) -> bytes:
        """Return the body of a whole answer."""
        content = [_block(block) for block in self.said]
        answer = {
            "metrics": {"latencyMs": 7},
            "output": {"message": {"content": content, "role": "assistant"}},
            "stopReason": self.stop_reason,
            "usage": self.usage,
        }
        return _dumps(answer)

    def messages(self) -> list[bytes]:
        """Return the messages of a stream."""
        found = [event("messageStart", _dumps({"p": "abcd", "role": "assistant"}))]
        for index, block in enumerate(self.said):
            found += _stream_of(index, block)
        found.append(event("messageStop", _dumps({"p": "ab", "stopReason": self.stop_reason})))
        if self.has_metadata:
            metadata = {"metrics": {"latencyMs": 7}, "usage": self.usage}
            found.append(event("metadata", _dumps(metadata)))
        if self.exception:
            told = _dumps({"message": "secret prompt text"})
            found[self.fail_at :] = [exception(self.exception, told)]
        return found


@dataclass(slots=True)
class BedrockUpstream:
    """The fake: what it saw is in `server.seen`."""

    server: AwsServer
    script: Script = field(default_factory=Script)

    @property
    def base_url(self) -> str:
        """What a provider is given."""
        return self.server.base_url

    @property
    def seen(self) -> list[Seen]:
        """Requests in order."""
        return self.server.seen


@asynccontextmanager
async def open_bedrock_upstream() -> AsyncIterator[BedrockUpstream]:
    """Listen on 127.0.0.1."""
    upstream: BedrockUpstream

    def answer(seen: Seen) -> Frames | Whole:
        script = upstream.script
        if script.error:
            return refusal(script.error, script.message, script.status)
        if seen.path.endswith("/converse"):
            seen.usage = script.usage
            body = b"{oops" if script.fail == "junk" else script.whole()
            return Whole(body, is_cut=script.fail == "cut")
        messages = script.messages()
        if script.has_metadata and not script.exception and not script.fail:
            seen.usage = script.usage
        fail_at = script.fail_at if script.fail else -1
        return Frames(messages, script.fail, fail_at, script.split, script.delay_ms)

    async with open_aws_server("bedrock", answer) as server:
        upstream = BedrockUpstream(server)
        yield upstream


def _block(block: Said) -> dict[str, Any]:
    joined = "".join(block.pieces)
    if block.kind == "text":
        return {"text": joined}
    if block.kind == "tool":
        arguments = json.loads(joined or "{}")
        return {"toolUse": {"input": arguments, "name": block.name, "toolUseId": block.id}}
    if block.kind == "redacted":
        return {"reasoningContent": {"redactedContent": joined}}
    told = {"text": joined} | ({"signature": block.signature} if block.signature else {})
    return {"reasoningContent": {"reasoningText": told}}


def _stream_of(index: int, block: Said) -> list[bytes]:
    place = {"contentBlockIndex": index}
    deltas: list[dict[str, Any]] = []
    found = []
    if block.kind == "text":
        deltas = [{"text": piece} for piece in block.pieces]
    elif block.kind == "tool":
        start = {"toolUse": {"name": block.name, "toolUseId": block.id}}
        found.append(event("contentBlockStart", _dumps({**place, "p": "a", "start": start})))
        deltas = [{"toolUse": {"input": piece}} for piece in block.pieces]
    elif block.kind == "redacted":
        deltas = [{"reasoningContent": {"redactedContent": piece}} for piece in block.pieces]
    else:
        deltas = [{"reasoningContent": {"text": piece}} for piece in block.pieces]
        if block.signature:
            deltas.append({"reasoningContent": {"signature": block.signature}})
    found += [
        event("contentBlockDelta", _dumps({**place, "delta": delta, "p": "abc"}))
        for delta in deltas
    ]
    return [*found, event("contentBlockStop", _dumps({**place, "p": "abcdefgh"}))]


def _dumps(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
