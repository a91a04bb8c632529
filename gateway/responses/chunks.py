"""Reads what a model said, in chat chunks and whole completions, as its upstream wrote it; pure.

An upstream's text and calls are passed on as they came, so what is not of the expected kind is
taken for nothing rather than for an error: the answer is under way and paid for.
"""

from typing import Any, Final

import msgspec

from gateway.openai.tolerance import plain_json
from gateway.responses.output import Logprobs, Output
from turnpike.type.v1 import usage_pb2


class Said(msgspec.Struct):
    """A message, or the delta of one."""

    content: Any = None
    refusal: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    tool_calls: Any = None


class Choice(msgspec.Struct):
    """A choice of a chunk or of a whole completion."""

    index: Any = 0
    delta: Said | None = None
    message: Said | None = None
    logprobs: Any = None
    finish_reason: Any = None


class Answer(msgspec.Struct):
    """A chunk or a whole completion; its first three fields are Turnpike's own."""

    created: int
    model: str
    choices: list[Choice]
    usage: Any = None
    service_tier: Any = None


_SERVICE_TIERS: Final = ("auto", "default", "flex", "scale", "priority", "fast", "ultrafast")
_decode: Final = msgspec.json.Decoder(Answer).decode
_encode: Final = msgspec.json.encode


def read_answer(data: bytes) -> Answer:
    """Return a chunk or a whole completion; see `plain_json` for what of it is left out.

    Raises:
        ValueError: It is neither.
        msgspec.DecodeError: It is neither.
        RecursionError: It is nested too deeply.
    """
    try:
        return _decode(data)
    except msgspec.DecodeError:
        return _decode(plain_json(data))


def take(choice: Choice, output: Output) -> None:
    """Add what a choice says to the output."""
    said = choice.delta or choice.message
    if said is None:
        return
    if thought := _text(said.reasoning_content) or _text(said.reasoning):
        output.think(thought)
    if text := _text(said.content):
        output.say(text, _logprobs(choice.logprobs))
    if refusal := _text(said.refusal):
        output.refuse(refusal)
    for call in _dicts(said.tool_calls):
        _take_call(call, output)


def service_tier(answer: Answer) -> str | None:
    """Return how the upstream served, if it says so in OpenAI's words."""
    return answer.service_tier if answer.service_tier in _SERVICE_TIERS else None


def usage_of(usage: object) -> usage_pb2.TokenUsage:
    """Return the counts of a completion's usage object."""
    told = usage if isinstance(usage, dict) else {}
    prompt, completion = _count(told, "prompt_tokens"), _count(told, "completion_tokens")
    cached = _count(told.get("prompt_tokens_details"), "cached_tokens")
    reasoning = _count(told.get("completion_tokens_details"), "reasoning_tokens")
    return usage_pb2.TokenUsage(
        prompt_token_count=prompt,
        completion_token_count=completion,
        cached_prompt_token_count=min(prompt, cached or _count(told, "prompt_cache_hit_tokens")),
        reasoning_token_count=min(completion, reasoning),
    )


def _take_call(call: dict[str, Any], output: Output) -> None:
    call_id, function = _text(call.get("id")), call.get("function")
    named = function if isinstance(function, dict) else {}
    number = call.get("index")
    if not isinstance(number, int):
        number = output.next_number() if call_id else output.last_number()
    arguments = named.get("arguments")
    if isinstance(arguments, dict):
        arguments = _encode(arguments).decode()
    output.call(number, call_id, _text(named.get("name")), _text(arguments))


def _text(value: object) -> str:
    """Return a text, or what the texts of a list of parts add up to."""
    if isinstance(value, str):
        return value
    return "".join(_text(part.get("text")) for part in _dicts(value))


def _dicts(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _count(told: object, name: str) -> int:
    value = told.get(name) if isinstance(told, dict) else None
    return int(value) if isinstance(value, int | float) and value > 0 else 0


def _logprobs(told: object) -> Logprobs:
    entries = _dicts(told.get("content")) if isinstance(told, dict) else []
    return [
        {
            **_logprob(entry),
            "top_logprobs": [_logprob(t) for t in _dicts(entry.get("top_logprobs"))],
        }
        for entry in entries
    ]


def _logprob(entry: dict[str, Any]) -> dict[str, object]:
    token, value, spelled = _text(entry.get("token")), entry.get("logprob"), entry.get("bytes")
    return {
        "token": token,
        "logprob": value if isinstance(value, int | float) else 0.0,
        "bytes": spelled if isinstance(spelled, list) else list(token.encode()),
    }
