"""The fake OpenAI upstream's other endpoints: text completions and embeddings.

Scripts are those of chat; `vectors` is a field of its own. The vector of input `i` is `i + 1`
followed by eighths, so that order and length show.
"""

import base64
import dataclasses
import struct
from typing import Any

from tests.fakes.openai_script import (
    IDENTITY,
    Event,
    Script,
    StreamWriter,
    dumps,
    plain_body,
    text_of,
    usage_of,
)

DIMENSIONS = 8


def writer_of(path: str, script: Script, request: dict[str, Any]) -> StreamWriter:
    """Return what writes the stream that an endpoint answers with."""
    is_chat = path.endswith("/chat/completions")
    return StreamWriter(script, request) if is_chat else TextWriter(script, request)


def body_of(
    path: str, script: Script, request: dict[str, Any]
) -> tuple[bytes, dict[str, Any] | None]:
    """Return the whole answer of an endpoint, and the usage in it."""
    if path.endswith("/chat/completions"):
        return plain_body(script, request)
    if path.endswith("/embeddings"):
        return embeddings_body(script, request)
    return text_body(script, request)


class TextWriter(StreamWriter):
    """Writes the events of a text completion."""

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        reason: str | None = None,
        usage: dict[str, Any] | None = None,
        chunk: int = 0,
    ) -> Event:
        chat = super()._chunk(index, delta, reason=reason, usage=usage, chunk=chunk)
        choice = {
            "index": index,
            "text": delta.get("content", ""),
            "logprobs": None,
            "finish_reason": reason,
        }
        value: dict[str, Any] = {**IDENTITY, "id": "cmpl-upstream", "object": "text_completion"}
        value["choices"] = [choice]
        if self._script.keys == "drifting":
            value["created"] += self._serial
        if usage is not None:
            value["usage"] = usage
        elif self._script.usage == "null":
            value["usage"] = None
        return Event(self._frame(self._encode(value)), chunk, chat.usage)


def text_body(script: Script, request: dict[str, Any]) -> tuple[bytes, dict[str, Any] | None]:
    """Return a whole text completion, with the prompt before each text when it is to be echoed."""
    prompt = request["prompt"]
    prompts = prompt if isinstance(prompt, list) and not isinstance(prompt[0], int) else [prompt]
    count = len(prompts) * request.get("n", 1)
    text = "".join(text_of(script, index) for index in range(script.chunks))
    reason = {"never": None, "unknown": "tired"}.get(script.finish, script.reason)
    choices = [
        {
            "index": index,
            "text": (str(prompts[0]) if request.get("echo") else "") + text,
            "logprobs": None,
            "finish_reason": reason,
        }
        for index in range(count)
    ]
    counted = dataclasses.replace(script, choices=count)
    usage = None if script.usage == "never" else usage_of(counted, request, script.chunks)
    answer = {**IDENTITY, "id": "cmpl-upstream", "object": "text_completion", "choices": choices}
    if usage is not None:
        answer["usage"] = usage
    return dumps(answer), usage


def vector_of(index: int, dimensions: int = DIMENSIONS) -> list[float]:
    """Return the vector of an input."""
    return [index + 1.0, *(0.125 * place for place in range(1, dimensions))]


def embeddings_body(script: Script, request: dict[str, Any]) -> tuple[bytes, dict[str, Any] | None]:
    """Return vectors for the inputs, in the spelling and length that were asked for."""
    given, wrong = request["input"], script.vectors
    count = len(given) if isinstance(given, list) and not isinstance(given[0], int) else 1
    dimensions = DIMENSIONS if wrong == "stubborn" else request.get("dimensions") or DIMENSIONS
    vectors = [vector_of(index, dimensions) for index in range(count)]
    if wrong == "ragged":
        vectors[-1].append(0.5)
    is_base64 = (request.get("encoding_format") == "base64") != (wrong == "respelled")
    data: list[dict[str, Any]] = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
            if is_base64
            else vector,
        }
        for index, vector in enumerate(vectors)
    ]
    if wrong == "empty":
        data[0]["embedding"] = "" if is_base64 else []
    if wrong == "twice":
        data[0]["index"] = count - 1
    if wrong in ("fewer", "more"):
        data = data[:-1] if wrong == "fewer" else [*data, {**data[0], "index": count}]
    usage: dict[str, Any] | None = {
        "prompt_tokens": script.prompt_tokens,
        "total_tokens": script.prompt_tokens,
    }
    if script.usage in ("never", "negative", "absurd"):
        usage = {"negative": {"prompt_tokens": -1}, "absurd": {"prompt_tokens": 10**18}}.get(
            script.usage
        )
    if wrong == "reversed":
        data.reverse()
    answer = {"object": "list", "data": data, "model": "upstream-model", "id": "embd-upstream"}
    return dumps(answer if usage is None else {**answer, "usage": usage}), usage
