"""The fakes of OpenAI's, Anthropic's and Google's APIs as upstreams of the matrix."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.fakes import anthropic_script, gemini_script, openai_script
from tests.fakes.anthropic_upstream import AnthropicUpstream
from tests.fakes.gemini_upstream import GeminiUpstream
from tests.fakes.openai_upstream import OpenAiUpstream
from tests.matrix.reply import (
    ARGUED,
    ARGUMENTS,
    PIECES_PAUSE_MS,
    PROMPT,
    PROMPT_TOKENS,
    Asked,
    Reply,
    Speaker,
    Told,
)

VECTOR_TOKENS = 6


def openai_script_of(reply: Reply, *, is_streaming: bool) -> openai_script.Script:
    """Return how a fake of OpenAI's API answers so."""
    deltas: list[dict[str, Any]] = [{"reasoning_content": thought} for thought in reply.thoughts]
    for index, name in enumerate(reply.tools):
        call = {"index": index, "id": f"call_{index}", "type": "function"}
        first, *others = ARGUMENTS
        deltas.append({"tool_calls": [{**call, "function": {"name": name, "arguments": first}}]})
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in others
        ]
    if not reply.tools:
        deltas += [{"content": piece} for piece in reply.pieces]
    more: dict[str, Any] = {"reason": "tool_calls" if reply.tools else "stop"}
    more["prompt_tokens"] = PROMPT_TOKENS
    if reply.trouble == "refusal":
        more |= {"status": 503, "message": "secret prompt text"}
    elif reply.trouble == "error":
        more["body"] = "error_late" if is_streaming else "error"
    elif reply.trouble == "junk":
        more["body"] = "junk_late" if is_streaming else "junk"
    elif reply.trouble == "cut":
        more["cut_after"] = reply.after
    elif reply.trouble == "silence":
        # It falls silent in the middle.
        more["hang"], deltas = "stream", deltas[: reply.after] * 2
    if reply.trouble in ("error", "junk", "cut"):
        more["delay_ms"] = PIECES_PAUSE_MS
    return openai_script.says(*deltas, **more)


@dataclass
class OpenAiSpeaker(Speaker):
    """A fake of OpenAI's API."""

    upstream: OpenAiUpstream

    def tell(self, reply: Reply, *, is_streaming: bool) -> Asked:
        script = openai_script_of(reply, is_streaming=is_streaming)
        self.upstream.handler = lambda _seen: script
        return Asked(PROMPT)

    def told(self) -> Told | None:
        return openai_usage(self.upstream.seen[-1].usage)

    def made(self) -> int:
        return self.upstream.seen[-1].chunks_sent

    def is_left(self) -> bool:
        return self.upstream.seen[-1].is_aborted

    def asked_count(self) -> int:
        return sum(1 for seen in self.upstream.seen if seen.method == "POST")

    def has_seen(self, picture: str) -> bool:
        return picture in json.dumps(self.upstream.seen[-1].body)


def openai_usage(usage: dict[str, Any] | None) -> Told | None:
    """Return what an answer in OpenAI's form says of itself."""
    if usage is None:
        return None
    return Told(usage["prompt_tokens"], usage.get("completion_tokens", 0))


@dataclass
class AnthropicSpeaker(Speaker):
    """A fake of the Messages API; the first three events of a stream are no pieces."""

    upstream: AnthropicUpstream

    def tell(self, reply: Reply, *, is_streaming: bool) -> Asked:
        says = [anthropic_script.thinking(*reply.thoughts)] if reply.thoughts else []
        called = reply.tools
        if reply.is_structured:
            says.append(anthropic_script.tool("toolu_1", "give_answer", *reply.pieces))
        elif not called:
            says.append(anthropic_script.text(*reply.pieces))
        says += [
            anthropic_script.tool(f"toolu_{index}", name, *ARGUMENTS)
            for index, name in enumerate(called)
        ]
        after = 3 + reply.after
        more: dict[str, Any] = {}
        if called or reply.is_structured:
            more["stop_reason"] = "tool_use"
        if reply.trouble == "refusal":
            more |= {"status": 529, "error": "overloaded_error"}
        elif reply.trouble == "error":
            more |= {"error": "api_error", "error_after": after}
            more |= {} if is_streaming else {"body": "error"}
        elif reply.trouble == "junk":
            more |= {"junk_after": after} if is_streaming else {"body": "junk"}
        elif reply.trouble == "cut":
            more |= {"cut_after": after} if is_streaming else {"is_halved": True}
        elif reply.trouble == "silence":
            more["hang_after"] = after
        if reply.trouble in ("error", "junk", "cut"):
            more["delay_ms"] = PIECES_PAUSE_MS
        self.upstream.script = anthropic_script.Script(
            says=tuple(says),
            input_tokens=PROMPT_TOKENS - 8,
            cache_read=5,
            cache_written=3,
            **more,
        )
        return Asked(PROMPT)

    def told(self) -> Told | None:
        usage = self.upstream.seen[-1].usage
        if usage is None:
            return None
        prompt = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
        return Told(sum(usage[name] for name in prompt), usage["output_tokens"])

    def made(self) -> int:
        return max(0, self.upstream.seen[-1].events_sent - 3)

    def is_left(self) -> bool:
        return self.upstream.seen[-1].is_aborted

    def asked_count(self) -> int:
        return sum(1 for seen in self.upstream.seen if seen.body is not None)

    def has_seen(self, picture: str) -> bool:
        return picture in json.dumps(self.upstream.seen[-1].body)


@dataclass
class GeminiSpeaker(Speaker):
    """A fake of Gemini's API; every piece is a token."""

    upstream: GeminiUpstream

    def tell(self, reply: Reply, *, is_streaming: bool) -> Asked:
        del is_streaming
        said = [
            gemini_script.Said({"text": thought, "thought": True}, tokens=1)
            for thought in reply.thoughts
        ]
        if not reply.tools:
            said += [gemini_script.Said({"text": piece}, tokens=1) for piece in reply.pieces]
        said += [
            gemini_script.Said({"functionCall": {"name": name, "args": ARGUED}}, tokens=2)
            for name in reply.tools
        ]
        more: dict[str, Any] = {}
        if reply.trouble == "refusal":
            more |= {"status": 503, "error": gemini_script.status(503, "UNAVAILABLE")}
        elif reply.trouble == "silence":
            more["hang_after"] = reply.after
        elif reply.trouble:
            more |= {f"{reply.trouble}_after": reply.after, "delay_ms": PIECES_PAUSE_MS}
        script = gemini_script.Script(
            said=tuple(said), prompt_tokens=PROMPT_TOKENS, cached_tokens=4, **more
        )
        self.upstream.answers(script)
        return Asked(PROMPT)

    def tell_operation(self, name: str) -> Mapping[str, Any]:
        del name
        values = {"values": [0.5, 0.25]}
        statistics = {"token_count": VECTOR_TOKENS // 2, "truncated": False}
        answer = {
            "embeddings": [values] * 2,
            "usageMetadata": {"promptTokenCount": VECTOR_TOKENS},
            "predictions": [{"embeddings": {**values, "statistics": statistics}}] * 2,
        }
        self.upstream.answers(gemini_script.dumps(answer))
        return {}

    def told(self) -> Told | None:
        seen = self.upstream.seen[-1]
        usage = seen.usage
        if seen.path.endswith((":batchEmbedContents", ":predict")):
            return Told(VECTOR_TOKENS, 0)
        if usage is None:
            return None
        completion = usage.get("candidatesTokenCount", 0) + usage.get("thoughtsTokenCount", 0)
        return Told(usage["promptTokenCount"], completion)

    def made(self) -> int:
        return self.upstream.seen[-1].events_sent

    def is_left(self) -> bool:
        return self.upstream.seen[-1].is_aborted

    def asked_count(self) -> int:
        return sum(1 for seen in self.upstream.seen if seen.method == "POST")

    def has_seen(self, picture: str) -> bool:
        return picture in json.dumps(self.upstream.seen[-1].body)
