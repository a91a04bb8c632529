"""What tests of the providers at AWS ask, and how they read what comes back."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from services.router.constraints import CONSTRAINTS, constraint_of
from services.router.providers.port import Batch
from services.router.providers.translated import Translated
from tests.fakes.openai_calls import CHUNK_HEAD, make_body, make_call


async def ask(
    provider: Translated,
    said: str | list[Any] = "hello",
    /,
    *,
    plain: bool = False,
    wait_s: float = 10.0,
    call: dict[str, Any] | None = None,
    into: list[Batch] | None = None,
    **fields: Any,
) -> list[Batch]:
    """Return the batches of an answer, constrained as the router would say it.

    They are also put `into` a list, as far as they came. `messages=None` leaves the messages out,
    as operations other than chat do.
    """
    body = make_body(said, **{n: v for n, v in fields.items() if n != "prompt"})  # type: ignore[arg-type]
    if "prompt" in fields:
        body["prompt"] = msgspec.Raw(msgspec.json.encode(fields["prompt"]))
    if "messages" in fields and fields["messages"] is None:
        del body["messages"]
    constraint = None if CONSTRAINTS.isdisjoint(body) else constraint_of(body)
    made = make_call(
        is_streaming=not plain, **{"constraint": constraint, "idle_s": wait_s, **(call or {})}
    )
    deadline_s = asyncio.get_running_loop().time() + wait_s
    found = [] if into is None else into
    async with aclosing(provider.stream(made, body, deadline_s=deadline_s)) as batches:
        async for batch in batches:
            found.append(batch)
    return found


def folded(batches: Sequence[Batch]) -> dict[str, Any]:
    """Return the message that a stream adds up to, with its finish_reason."""
    message: dict[str, Any] = {}
    for batch in batches:
        for part in batch.sse.split(b"\n\n")[:-1]:
            assert part.startswith(b"data: " + CHUNK_HEAD)
            _fold(message, json.loads(part[6:])["choices"][0]["delta"])
    message["finish_reason"] = batches[-1].finish.finish_reason
    return _with_arguments_read(message)


def _fold(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if name == "tool_calls":
            calls = message.setdefault(name, [])
            for piece in value:
                index = piece.pop("index")
                if index == len(calls):
                    calls.append(piece)
                else:
                    calls[index]["function"]["arguments"] += piece["function"]["arguments"]
        elif name == "role":
            message[name] = value
        else:
            message[name] = message[name] + value if name in message else value


def whole(batch: Batch) -> dict[str, Any]:
    """Return the message of a whole answer in the same form."""
    choice = json.loads(batch.completion)["choices"][0]
    message = {name: value for name, value in choice["message"].items() if name != "refusal"}
    if message.get("content") is None:
        message["content"] = ""
    return _with_arguments_read({**message, "finish_reason": choice["finish_reason"]})


def _with_arguments_read(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message whose calls have JSON, not its spelling."""
    for call in message.get("tool_calls", ()):
        function = call["function"]
        function["arguments"] = json.loads(function["arguments"] or "{}")
    return message


def tokens_of(batch: Batch) -> tuple[int, int]:
    """Return the prompt and completion tokens of the last batch."""
    usage = batch.finish.usage
    return usage.prompt_token_count, usage.completion_token_count
