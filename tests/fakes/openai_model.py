"""An OpenAI-compatible upstream that does what it is asked: tools, choices, logprobs, schemas.

Where `openai_upstream` is told by markers how to misbehave, this one behaves: it answers every
parameter of a chat completion in OpenAI's own form, by rules that a test can foresee. It remembers
each request it got and the usage it reported.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

WORDS = ["The", " sea", " is", " salty", " because", " rivers", " carry", " salt", "."]
CREATED = 1_700_000_000
PROMPT_TOKENS = 11


@dataclass(slots=True)
class OpenAiModel:
    """The fake's memory; `base_url` is what a provider is given.

    `spell` writes a whole answer or a chunk, as an engine does; see `openai_engines`.
    """

    base_url: str = ""
    seen: list[dict[str, Any]] = field(default_factory=list)
    usages: list[dict[str, Any]] = field(default_factory=list)
    aborted_count: int = 0
    pause_s: float = 0.0
    is_lying: bool = False
    """Whether it ignores the schema it is given."""
    spell: Callable[[dict[str, Any]], bytes] = field(default=lambda v: json.dumps(v).encode())


def _example(schema: Any) -> Any:
    """Return a small value that a JSON Schema allows."""
    if not isinstance(schema, dict):
        return None
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        wanted = schema.get("required") or list(schema.get("properties", {}))
        return {name: _example(schema.get("properties", {}).get(name)) for name in wanted}
    if kind == "array":
        return [_example(schema.get("items", {"type": "string"}))]
    return {"string": "Paris", "integer": 7, "number": 1.5, "boolean": True}.get(kind)


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema with its local references filled in, as pydantic makes them."""
    definitions = schema.get("$defs", {})

    def fill(value: Any) -> Any:
        if isinstance(value, list):
            return [fill(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:
            return fill(definitions[value["$ref"].rsplit("/", 1)[1]])
        return {name: fill(item) for name, item in value.items() if name != "$defs"}

    filled: dict[str, Any] = fill(schema)
    return filled


class Turn:
    """What the model says to one request."""

    def __init__(self, request: dict[str, Any], *, is_lying: bool) -> None:
        self.request = request
        self.choice_count = int(request.get("n") or 1)
        self.limit = request.get("max_tokens") or request.get("max_completion_tokens") or 1000
        self.tools = self._tools()
        self.prompt = json.dumps(request["messages"])
        self.pieces = [] if self.tools else self._pieces(is_lying=is_lying)
        self.thoughts = ["Let", " me", " think."] if "think" in self.prompt else []
        self.reason = "tool_calls" if self.tools else "stop"
        room = max(0, self.limit - len(self.thoughts))
        if len(self.pieces) > room:
            self.pieces, self.reason = self.pieces[:room], "length"
        if "forbidden" in self.prompt:
            self.pieces, self.reason = ["I"], "content_filter"
        self.refusal = "I will not." if "refuse" in self.prompt else None
        if self.refusal is not None:
            self.pieces = []

    def _tools(self) -> list[dict[str, Any]]:
        request = self.request
        wanted, choice = request.get("tools") or [], request.get("tool_choice", "auto")
        is_answered = request["messages"][-1]["role"] == "tool"
        if not wanted or choice == "none" or (is_answered and choice == "auto"):
            return []
        if isinstance(choice, dict):
            wanted = [t for t in wanted if t["function"]["name"] == choice["function"]["name"]]
        elif request.get("parallel_tool_calls") is False:
            wanted = wanted[:1]
        return [
            {
                "id": f"call_{number}",
                "type": "function",
                "function": {
                    "name": tool["function"]["name"],
                    "arguments": json.dumps(_example(tool["function"].get("parameters") or {})),
                },
            }
            for number, tool in enumerate(wanted)
        ]

    def _pieces(self, *, is_lying: bool) -> list[str]:
        form = self.request.get("response_format") or {}
        schema = (form.get("json_schema") or {}).get("schema")
        guide = self.request.get("structured_outputs") or {}
        schema = guide.get("json", schema)
        if "choice" in guide and not is_lying:
            return [guide["choice"][0]]
        if form.get("type") == "json_object":
            schema = {"type": "object", "required": ["answer"]}
        if schema is None or is_lying:
            return list(WORDS)
        text = json.dumps(_example(_resolved(schema)))
        return [text[at : at + 4] for at in range(0, len(text), 4)]

    def usage(self) -> dict[str, Any]:
        """Return what it took."""
        called = sum(len(tool["function"]["arguments"]) for tool in self.tools)
        spoken = len(self.pieces) or min(called, self.limit)
        completion = self.choice_count * spoken + len(self.thoughts)
        return {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": completion,
            "total_tokens": PROMPT_TOKENS + completion,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": len(self.thoughts)},
        }

    def logprobs(self, pieces: list[str]) -> dict[str, Any] | None:
        """Return what stands beside the text, if it was asked for."""
        if not self.request.get("logprobs"):
            return None
        top = int(self.request.get("top_logprobs") or 0)
        content = []
        for piece in pieces:
            token = {"token": piece, "logprob": -0.1, "bytes": list(piece.encode())}
            others = [{**token, "logprob": -0.1 - n} for n in range(top)]
            content.append({**token, "top_logprobs": others})
        return {"content": content, "refusal": None}

    def identity(self, kind: str) -> dict[str, Any]:
        """Return what each object of the answer has."""
        return {
            "id": "chatcmpl-upstream",
            "object": kind,
            "created": CREATED,
            "model": self.request["model"],
            "system_fingerprint": "fp_sea",
            "service_tier": "default",
        }

    def completion(self) -> dict[str, Any]:
        """Return the whole answer."""
        message: dict[str, Any] = {"role": "assistant", "refusal": self.refusal}
        is_silent = self.tools or self.refusal is not None
        message["content"] = None if is_silent else "".join(self.pieces)
        if self.tools:
            message["tool_calls"] = self.tools
        if self.thoughts:
            message["reasoning_content"] = "".join(self.thoughts)
        choices = [
            {
                "index": index,
                "message": message,
                "logprobs": self.logprobs(self.pieces),
                "finish_reason": self.reason,
            }
            for index in range(self.choice_count)
        ]
        return {**self.identity("chat.completion"), "choices": choices, "usage": self.usage()}

    def chunks(self) -> Iterator[dict[str, Any]]:
        """Return the chunks of a stream, the usage chunk last."""
        indices = range(self.choice_count)
        for index in indices:
            yield self._chunk(index, {"role": "assistant", "content": ""})
        for thought in self.thoughts:
            yield self._chunk(0, {"reasoning_content": thought})
        if self.refusal is not None:
            for index in indices:
                yield self._chunk(index, {"refusal": self.refusal})
        for piece in self.pieces:
            for index in indices:
                yield self._chunk(index, {"content": piece}, self.logprobs([piece]))
        for number, tool in enumerate(self.tools):
            head = {**tool, "index": number, "function": {**tool["function"], "arguments": ""}}
            yield self._chunk(0, {"tool_calls": [head]})
            arguments = tool["function"]["arguments"]
            for at in range(0, len(arguments), 5):
                part = {"index": number, "function": {"arguments": arguments[at : at + 5]}}
                yield self._chunk(0, {"tool_calls": [part]})
        for index in indices:
            yield self._chunk(index, {}, reason=self.reason)
        yield {**self.identity("chat.completion.chunk"), "choices": [], "usage": self.usage()}

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        logprobs: dict[str, Any] | None = None,
        *,
        reason: str | None = None,
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return {**self.identity("chat.completion.chunk"), "choices": [choice]}


@asynccontextmanager
async def open_openai_model() -> AsyncIterator[OpenAiModel]:
    """Serve on a free port."""
    model = OpenAiModel()

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        model.seen.append(body)
        turn = Turn(body, is_lying=model.is_lying)
        if not body.get("stream"):
            model.usages.append(turn.usage())
            whole = model.spell(turn.completion())
            return web.Response(body=whole, content_type="application/json")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            for chunk in turn.chunks():
                await response.write(b"data: " + model.spell(chunk) + b"\n\n")
                await asyncio.sleep(model.pause_s)
        except (ConnectionError, asyncio.CancelledError):
            model.aborted_count += 1
            raise
        model.usages.append(turn.usage())
        await response.write(b"data: [DONE]\n\n")
        return response

    app = web.Application(client_max_size=64 * 1024**2)
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    model.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield model
    finally:
        await runner.cleanup()
