"""Attempts, answers and their folding, for tests of Google's providers."""

import asyncio
import json
from contextlib import aclosing
from typing import Any

from openai.types.chat import ChatCompletion, ChatCompletionChunk

from services.router.providers.port import Batch, Body, Call, Provider
from tests.fakes.gemini_script import Json
from tests.fakes.openai_calls import CHUNK_HEAD, make_call

TOOLS: list[Json] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Tells the weather.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"$ref": "#/$defs/city"}},
                "required": ["city"],
                "additionalProperties": False,
                "$defs": {"city": {"type": "string"}},
            },
        },
    },
    {"type": "function", "function": {"name": "now", "parameters": {}}},
]


def gemini_call(**changes: Any) -> Call:
    """Return an attempt at a Gemini of the generation 2.5; streaming unless told otherwise."""
    options = {"engine": "gemini", **changes.pop("options", {})}
    return make_call(**{"upstream_model": "gemini-2.5-flash", "options": options, **changes})


async def ask(
    provider: Provider, body: Body, *, wait_s: float = 10.0, **changes: Any
) -> list[Batch]:
    """Return an answer's batches."""
    deadline_s = asyncio.get_running_loop().time() + wait_s
    call = gemini_call(**changes)
    async with aclosing(provider.stream(call, body, deadline_s=deadline_s)) as batches:
        return [batch async for batch in batches]


def message_of(batches: list[Batch]) -> Json:
    """Return the message that an answer says, whole or streamed, checked against OpenAI's types."""
    if batches[-1].completion:
        answer = json.loads(batches[-1].completion)
        ChatCompletion.model_validate(answer, strict=True)
        return _bare(answer["choices"][0]["message"])
    return _bare(_folded(batches))


def _bare(message: Json) -> Json:
    kept = {name: value for name, value in message.items() if value not in (None, "", [])}
    kept.pop("role", None)
    return kept


def _folded(batches: list[Batch]) -> Json:
    message: Json = {}
    parts = b"".join(batch.sse for batch in batches).split(b"\n\n")[:-1]
    assert all(part.startswith(b"data: " + CHUNK_HEAD) for part in parts)
    chunks = [json.loads(part[6:]) for part in parts]
    chunks += [json.loads(chunk) for chunk in batches[-1].finish.finish_chunks]
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk, strict=True)
        for name, value in chunk["choices"][0]["delta"].items():
            if name == "tool_calls":
                _fold_calls(message.setdefault(name, []), value)
            elif isinstance(value, list):
                message.setdefault(name, []).extend(value)
            else:
                message[name] = message.get(name, "") + value
    return message


def _fold_calls(calls: list[Json], pieces: list[Json]) -> None:
    for piece in pieces:
        if piece["index"] == len(calls):
            calls.append({name: value for name, value in piece.items() if name != "index"})
        else:
            arguments = piece["function"]["arguments"]
            calls[piece["index"]]["function"]["arguments"] += arguments
