"""Endpoints on Amazon SageMaker on real sockets, scripted: an envelope around what containers say.

In a test: `async with open_sagemaker_upstream() as upstream`, and `upstream.script` says what the
next answers are. A container that speaks OpenAI's API heeds the markers of
`tests.fakes.openai_script` in its prompt.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.fakes import openai_script
from tests.fakes.aws_server import AwsServer, Frames, Seen, Whole, open_aws_server, refusal
from tests.fakes.event_stream import event, exception
from tests.fakes.openai_texts import body_of, writer_of


@dataclass(slots=True)
class Script:
    """One answer.

    `container` is openai, generate or embed. A stream is sent as server-sent events, or as lines
    of JSON when `has_lines`, cut into parts of `part` bytes and written in pieces of `split`
    bytes. `error` refuses the request; `exception` ends the stream before the message of number
    `fail_at`, `fail` breaks it there (cut, junk, hang); a whole answer is cut, or junk, as well.
    `openai` is what a container that speaks OpenAI's API answers, in place of the markers; its
    stream comes in two parts when `halved_after` says after how many chunks.
    """

    container: str = "openai"
    pieces: tuple[str, ...] = ("Hel", "lo ", "wörld")
    details: dict[str, Any] | None = None
    vectors: Any = None
    has_lines: bool = False
    part: int = 0
    split: int = 0
    error: str = ""
    status: int = 400
    original: tuple[int, str] | None = None
    exception: str = ""
    fail: str = ""
    fail_at: int = -1
    openai: openai_script.Script | None = None
    halved_after: int = -1
    delay_ms: int = 0


@dataclass(slots=True)
class SageMakerUpstream:
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
async def open_sagemaker_upstream() -> AsyncIterator[SageMakerUpstream]:
    """Listen on 127.0.0.1."""
    upstream: SageMakerUpstream

    def answer(seen: Seen) -> Frames | Whole:
        script = upstream.script
        if script.error:
            more: dict[str, Any] = {}
            if script.original is not None:
                status, message = script.original
                more = {"OriginalStatusCode": status, "OriginalMessage": message}
            return refusal(script.error, "secret prompt text", script.status, **more)
        if seen.path.endswith("/invocations"):
            body = _whole(script, seen)
            return Whole(b"{oops" if script.fail == "junk" else body, is_cut=script.fail == "cut")
        events = _events(script, seen)
        if script.fail or script.exception:
            seen.usage = None
        parts = _parts(script, events)
        kind = "application/octet-stream"
        messages = [event("PayloadPart", part, kind) for part in parts]
        if script.exception:
            told = {"Message": "secret prompt text", "ErrorCode": "ModelInvocationTimeExceeded"}
            messages[script.fail_at :] = [exception(script.exception, json.dumps(told).encode())]
        fail_at = script.fail_at if script.fail else -1
        return Frames(messages, script.fail, fail_at, script.split, script.delay_ms)

    async with open_aws_server("sagemaker", answer) as server:
        upstream = SageMakerUpstream(server)
        yield upstream


def line(one: bytes) -> bytes:
    """Return an event as a line of JSON; nothing for what is none."""
    data = one.strip().removeprefix(b"data:").strip()
    return data + b"\n" if data.startswith(b"{") else b""


def _parts(script: Script, events: list[bytes]) -> list[bytes]:
    if script.halved_after >= 0:
        # The event that tells the role comes first.
        at = script.halved_after + 1
        return [b"".join(events[:at]), b"".join(events[at:])]
    data = b"".join(events)
    if script.has_lines:
        data = b"".join(line(one) for one in events)
    size = script.part or 64
    return [data[at : at + size] for at in range(0, len(data), size)]


def _whole(script: Script, seen: Seen) -> bytes:
    if script.container == "embed":
        return json.dumps(script.vectors).encode()
    if script.container == "generate":
        said = {"generated_text": "".join(script.pieces)}
        answer = said if script.details is None else {**said, "details": script.details}
        return json.dumps([answer]).encode()
    body, usage = body_of(_path(seen), _told(script, seen), seen.body)
    seen.usage = usage
    return body


def _events(script: Script, seen: Seen) -> list[bytes]:
    if script.container == "openai":
        found = writer_of(_path(seen), _told(script, seen), seen.body).events()
        for one in found:
            seen.usage = one.usage or seen.usage
        return [one.data for one in found]
    last = len(script.pieces) - 1
    events = []
    for index, piece in enumerate(script.pieces):
        said: dict[str, Any] = {
            "index": index + 1,
            "token": {"id": index, "text": piece, "logprob": -0.1, "special": False},
            "generated_text": "".join(script.pieces) if index == last else None,
            "details": script.details if index == last else None,
        }
        events.append(b"data:" + json.dumps(said).encode() + b"\n\n")
    return events


def _told(script: Script, seen: Seen) -> openai_script.Script:
    return script.openai or openai_script.script_of(seen.raw)


def _path(seen: Seen) -> str:
    """Return which of OpenAI's paths a container takes a request for."""
    if "messages" in seen.body:
        return "/v1/chat/completions"
    return "/v1/completions" if "prompt" in seen.body else "/v1/embeddings"
