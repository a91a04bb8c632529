"""What the fake OpenAI upstream is told to do with a request, read from markers in the prompt.

shape=c64-d5                64 chunks, 5 ms apart (16 chunks at once without it)
prompt=120                  prompt tokens to report
use=max                     completion tokens to report: the max_tokens that was sent
fake=usage:never;split:1    any field of `Script`, as name:value pairs
"""

import dataclasses
import json
import re
from dataclasses import dataclass
from typing import Any

_SHAPE = re.compile(rb"shape=c(\d+)-d(\d+)")
_PROMPT = re.compile(rb"prompt=(\d+)")
_FAKE = re.compile(rb"fake=([a-z0-9_:;.\-]+)")


@dataclass(frozen=True, slots=True)
class Script:
    """One answer. Text fields name a variant, see the comments; 0 and "" mean: as usual."""

    chunks: int = 16
    delay_ms: int = 0
    prompt_tokens: int = 12
    completion_tokens: int = -1  # -1: as many as chunks; -2: the max_tokens that was sent
    choices: int = 1
    usage: str = "extra"  # extra finish every twice never null negative absurd falling zero nototal
    finish: str = "chunk"  # chunk with_content never unknown
    reason: str = "stop"
    role: str = "first"  # first never
    split: int = 0  # bytes per write; 0: an event per write
    joined: int = 0  # 1: the whole body in one write
    line: str = "lf"  # lf crlf cr
    space: int = 1  # 0: `data:` without a space
    bom: int = 0
    comments: int = 0  # comment lines before each event
    multiline: int = 0  # 1: each JSON over two data lines
    keys: str = "usual"  # usual sorted spaced drifting (the head changes with each chunk)
    done: int = 1  # how many [DONE]
    after: str = ""  # junk: bytes after [DONE]
    length: str = "chunked"  # chunked close (until the end of the connection) size (plain)
    cut_after: int = -1  # chunks after which the connection is cut
    cut: str = "fin"  # fin rst half
    hang: str = ""  # headers_before headers_after stream done
    body: str = ""  # error error_first error_late junk junk_late html empty list deep latin
    gzip: int = 0
    status: int = 200
    retry_after: str = ""  # 7 or date
    code: str = ""
    message: str = ""
    head_bytes: int = 0  # a header of that size
    interim: int = 0  # 100 Continue answers before
    event_bytes: int = 0  # size of each chunk's text
    blank: int = 0  # blank lines before a plain answer
    close: int = 0  # 1: Connection: close
    deltas: tuple[Any, ...] = ()  # what the chunks say instead; `logprobs` stands beside
    said: dict[str, Any] | None = None  # more of a plain answer's message; by handlers only
    text: str = ""  # the whole answer, cut into the chunks
    vectors: str = ""  # fewer more reversed twice ragged empty respelled stubborn


def says(*deltas: Any, **more: Any) -> Script:
    """Return a script whose answer is made of these deltas, one in a chunk."""
    return Script(chunks=len(deltas), deltas=deltas, **more)


def script_of(body: bytes) -> Script:
    """Return the script that a request's markers ask for."""
    values: dict[str, Any] = {}
    if shape := _SHAPE.search(body):
        values["chunks"], values["delay_ms"] = int(shape[1]), int(shape[2])
    if prompt := _PROMPT.search(body):
        values["prompt_tokens"] = int(prompt[1])
    if b"use=max" in body:
        values["completion_tokens"] = -2
    if fake := _FAKE.search(body):
        defaults = dataclasses.asdict(Script())
        for pair in fake[1].decode().strip(";").split(";"):
            name, _, value = pair.partition(":")
            values[name] = type(defaults[name])(value)
    return Script(**values)


@dataclass(frozen=True, slots=True)
class Event:
    """A piece of body; `chunk` counts content events up to and with it; `usage` if it tells one."""

    data: bytes
    chunk: int = 0
    usage: dict[str, Any] | None = None


IDENTITY = {
    "id": "chatcmpl-upstream",
    "object": "chat.completion.chunk",
    "created": 1_700_000_000,
    "model": "upstream-model",
}


def usage_of(script: Script, request: dict[str, Any], chunks: int) -> dict[str, Any]:
    """Return the usage object of an answer with so many chunks."""
    asked = request.get("max_tokens", request.get("max_completion_tokens", 0))
    completion = {-1: chunks * script.choices, -2: asked}.get(
        script.completion_tokens, script.completion_tokens
    )
    prompt = script.prompt_tokens
    if script.usage == "zero":
        prompt = completion = 0
    if script.usage == "negative":
        completion = -1
    if script.usage == "absurd":
        completion = 10**18
    usage: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion}
    if script.usage != "nototal":
        usage["total_tokens"] = prompt + completion
    usage["prompt_tokens_details"] = {"cached_tokens": min(prompt, 4)}
    usage["completion_tokens_details"] = {"reasoning_tokens": 0}
    return usage


def text_of(script: Script, index: int) -> str:
    """Return the text of a chunk."""
    if script.text:
        size = -(-len(script.text) // script.chunks)
        return script.text[index * size : (index + 1) * size]
    text = f"tok{index} "
    return text if not script.event_bytes else text + "x" * (script.event_bytes - len(text))


def plain_body(script: Script, request: dict[str, Any]) -> tuple[bytes, dict[str, Any] | None]:
    """Return a whole completion and the usage in it."""
    text = "".join(text_of(script, index) for index in range(script.chunks))
    reason = {"never": None, "unknown": "tired"}.get(script.finish, script.reason)
    message: dict[str, Any] = {"role": "assistant", "content": text}
    logprobs = None
    if script.deltas:
        message = {"role": "assistant", **joined(script.deltas)}
        logprobs = message.pop("logprobs", None)
    choices = [
        {
            "index": index,
            "message": {**message, **(script.said or {})},
            "logprobs": logprobs,
            "finish_reason": reason,
        }
        for index in range(script.choices)
    ]
    usage = None if script.usage == "never" else usage_of(script, request, script.chunks)
    answer = {**IDENTITY, "object": "chat.completion", "choices": choices}
    if usage is not None:
        answer["usage"] = usage
    answer["system_fingerprint"] = "fp_fake"
    return b"\n" * script.blank + dumps(answer), usage


def joined(deltas: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """Return the message that deltas add up to."""
    message: dict[str, Any] = {"content": None}
    for delta in deltas:
        for name, value in delta.items():
            if name == "tool_calls":
                _join_calls(message.setdefault(name, []), value)
            elif name == "logprobs":
                kept = message.setdefault(name, {"content": [], "refusal": None})
                kept["content"] += value["content"]
            else:
                message[name] = (message.get(name) or "") + value
    return message


def _join_calls(calls: list[dict[str, Any]], fragments: list[dict[str, Any]]) -> None:
    for fragment in fragments:
        if fragment["index"] == len(calls):
            calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        call, function = calls[fragment["index"]], fragment["function"]
        call["id"] += fragment.get("id", "")
        call["function"]["name"] += function.get("name", "")
        call["function"]["arguments"] += function.get("arguments", "")


def odd_body(script: Script) -> bytes:
    """Return a body that is none."""
    error = {"error": {"message": "secret prompt text", "type": "server_error", "code": "boom"}}
    return {
        "error": dumps(error),
        "junk": b'{"id": oops',
        "html": b"<html>secret prompt text</html>",
        "empty": b"",
        "list": b"[1,2]",
        "deep": b'{"choices":' + b"[" * 100_000,
        "latin": '{"choices":[{"finish_reason":"stop","message":{"content":"é"}}]}'.encode(
            "latin-1"
        ),
    }[script.body]


def dumps(value: object) -> bytes:
    """Return compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


class StreamWriter:
    """Writes the events of a script, in the form that it asks for."""

    def __init__(self, script: Script, request: dict[str, Any]) -> None:
        self._script = script
        self._request = request
        self._serial = 0

    def events(self) -> list[Event]:
        """Return the pieces of the body in order."""
        script = self._script
        found: list[Event] = []
        if script.body == "error_first":
            error = {"error": {"message": "secret", "code": "rate_limit_exceeded"}}
            return [Event(self._frame(dumps(error)))]
        if script.role == "first":
            found += [
                self._chunk(i, {"role": "assistant", "content": ""}) for i in range(script.choices)
            ]
        for number in range(script.chunks):
            is_last = number == script.chunks - 1
            for index in range(script.choices):
                found.append(self._content(number, index, is_last=is_last))
            if number == script.chunks // 2 and script.body in ("error_late", "junk_late"):
                odd = dumps({"error": {"message": "secret", "type": "server_error"}})
                found.append(Event(self._frame(odd if script.body == "error_late" else b"{oops")))
        found += self._ends()
        found += self._usages()
        found += [Event(self._frame(b"[DONE]")) for _ in range(script.done)]
        if script.after:
            found.append(Event(self._frame(b'{"trailing": junk')))
        if script.bom:
            found[0] = Event(b"\xef\xbb\xbf" + found[0].data)
        return found

    def _content(self, number: int, index: int, *, is_last: bool) -> Event:
        script = self._script
        reason = script.reason if is_last and script.finish == "with_content" else None
        usage = None
        if script.usage == "every":
            usage = usage_of(script, self._request, number + 1)
        elif script.usage == "falling":
            usage = usage_of(script, self._request, script.chunks - number)
        delta = script.deltas[number] if script.deltas else {"content": text_of(script, number)}
        return self._chunk(index, delta, reason=reason, usage=usage, chunk=number + 1)

    def _ends(self) -> list[Event]:
        script = self._script
        if script.finish not in ("chunk", "unknown"):
            return []
        reason = "tired" if script.finish == "unknown" else script.reason
        last = None
        if script.usage in ("finish", "twice", "every"):
            last = usage_of(script, self._request, script.chunks)
        return [
            self._chunk(index, {}, reason=reason, usage=last, chunk=script.chunks)
            for index in range(script.choices)
        ]

    def _usages(self) -> list[Event]:
        script = self._script
        if script.usage in ("finish", "every", "never", "falling"):
            return []
        usage = usage_of(script, self._request, script.chunks)
        value = {**IDENTITY, "choices": [], "usage": usage}
        return [Event(self._frame(self._encode(value)), script.chunks, usage)]

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        reason: str | None = None,
        usage: dict[str, Any] | None = None,
        chunk: int = 0,
    ) -> Event:
        logprobs = None
        if "logprobs" in delta:
            delta = dict(delta)
            logprobs = delta.pop("logprobs")
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        value: dict[str, Any] = {**IDENTITY, "choices": [choice]}
        if self._script.keys == "drifting":
            self._serial += 1
            value["created"] = IDENTITY["created"] + self._serial  # type: ignore[operator]
        if usage is not None:
            value["usage"] = usage
        elif self._script.usage == "null":
            value["usage"] = None
        return Event(self._frame(self._encode(value)), chunk, usage)

    def _encode(self, value: dict[str, Any]) -> bytes:
        if self._script.keys == "sorted":
            return dumps(dict(sorted(value.items())))
        return json.dumps(value).encode() if self._script.keys == "spaced" else dumps(value)

    def _frame(self, payload: bytes) -> bytes:
        script = self._script
        prefix = b"data: " if script.space else b"data:"
        lines = [b": ping"] * script.comments
        if script.multiline and payload.startswith(b"{"):
            lines += [prefix + payload[:1], prefix + payload[1:]]
        else:
            lines.append(prefix + payload)
        end = {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}[script.line]
        return end.join(lines) + end + end
