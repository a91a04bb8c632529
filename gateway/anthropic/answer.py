"""From a whole chat completion to an Anthropic message; pure.

Input tokens do not include those read from a cache, as at Anthropic. Reasoning becomes a thinking
block with an empty signature: there is none to check. Input of a tool call that is no JSON object,
as when the token limit cut it, comes under the key `INVALID_JSON`, so that it is neither lost nor
taken for whole.
"""

from typing import Any, Final

import msgspec

from gateway.openai.tolerance import plain_json
from kit.errors import Reason, TurnpikeError

_STOP_REASONS: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Function(msgspec.Struct):
    """A tool call's name and arguments, or a piece of them."""

    name: str | None = None
    arguments: Any = None


class Call(msgspec.Struct):
    """A tool call, or a piece of one."""

    index: int | None = 0
    id: str | None = None
    function: Function | None = None
    type: Any = None

    @property
    def is_of_function(self) -> bool:
        """Whether it calls a function; no other tool can be asked for here."""
        return self.function is not None or self.type in (None, "function")


class Said(msgspec.Struct):
    """A message of a completion, or the delta of a chunk; texts may be null, text or parts."""

    content: Any = None
    reasoning_content: Any = None
    refusal: Any = None
    tool_calls: list[Call] | None = None


class Choice(msgspec.Struct):
    """A choice of a completion or a chunk; `stop_reason` is vLLM's: what it stopped at."""

    index: int = 0
    message: Said | None = None
    delta: Said | None = None
    finish_reason: str | None = None
    stop_reason: Any = None


class _Details(msgspec.Struct):
    cached_tokens: int | float | None = None
    reasoning_tokens: int | float | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    prompt_cache_hit_tokens: int | float | None = None


class _Completion(msgspec.Struct):
    model: str
    choices: list[Choice]
    usage: _Usage = msgspec.field(default_factory=_Usage)


_decode = msgspec.json.Decoder(_Completion).decode


def message(completion: bytes, stop_sequences: list[str], request_id: str) -> bytes:
    """Return the message object for a whole completion; only its first choice is read.

    Raises:
        TurnpikeError: `UPSTREAM_INVALID_RESPONSE` when the completion is not of the usual form.
    """
    try:
        answer = _read(completion)
        choice = min(answer.choices, key=lambda choice: choice.index)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise invalid() from error
    said = choice.message or Said()
    blocks = _blocks(said, request_id)
    has_calls = any(call.is_of_function for call in said.tool_calls or ())
    reason, sequence = stop_of(choice, stop_sequences, has_calls=has_calls)
    return msgspec.json.encode(
        {
            **opening(request_id, answer.model),
            "content": blocks,
            "stop_reason": reason,
            "stop_sequence": sequence,
            "usage": _usage(answer.usage),
        }
    )


def _read(completion: bytes) -> _Completion:
    try:
        return _decode(completion)
    except msgspec.DecodeError:
        return _decode(plain_json(completion))


def opening(request_id: str, model: str) -> dict[str, Any]:
    """Return what every message begins with."""
    return {"id": f"msg_{request_id}", "type": "message", "role": "assistant", "model": model}


def stop_of(
    choice: Choice, stop_sequences: list[str], *, has_calls: bool
) -> tuple[str, str | None]:
    """Return why an answer ended, and at which sequence where the upstream says so.

    Raises:
        TurnpikeError: `UPSTREAM_INVALID_RESPONSE` for a reason that is not known.
    """
    reason = _STOP_REASONS.get(choice.finish_reason or "")
    if reason is None:
        raise invalid()
    if reason != "end_turn":
        return reason, None
    if has_calls:
        return "tool_use", None
    sequence = choice.stop_reason
    if isinstance(sequence, str) and sequence in stop_sequences:
        return "stop_sequence", sequence
    return reason, None


def usage_object(prompt: int, completion: int, *, cached: int, reasoning: int) -> dict[str, Any]:
    """Return Anthropic's usage; `prompt` includes `cached`, `completion` includes `reasoning`."""
    cached = min(cached, prompt)
    usage: dict[str, Any] = {
        "input_tokens": prompt - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": completion,
    }
    if reasoning:
        usage["output_tokens_details"] = {"thinking_tokens": reasoning}
    return usage


def text_of(value: object) -> str:
    """Return the text of a content, whichever form an upstream gives it."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return ""
    texts = (part.get("text") for part in value if isinstance(part, dict))
    return "".join(text for text in texts if isinstance(text, str))


def arguments_of(function: Function | None) -> str:
    """Return a call's arguments as JSON text; some upstreams send an object."""
    value = None if function is None else function.arguments
    if value is None or isinstance(value, str):
        return value or ""
    return msgspec.json.encode(value).decode()


def is_object(text: str) -> bool:
    """Return whether a text is a whole JSON object."""
    try:
        _object(text)
    except (ValueError, RecursionError):
        return False
    return True


def invalid() -> TurnpikeError:
    """Return the failure of an answer that is none."""
    return TurnpikeError(
        Reason.UPSTREAM_INVALID_RESPONSE, "The upstream's answer cannot be read as a message."
    )


def _blocks(said: Said, request_id: str) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if thought := text_of(said.reasoning_content):
        blocks.append({"type": "thinking", "thinking": thought, "signature": ""})
    blocks += [
        {"type": "text", "text": text}
        for text in (text_of(said.content), text_of(said.refusal))
        if text
    ]
    for number, call in enumerate(said.tool_calls or ()):
        if not call.is_of_function:
            continue
        name = call.function.name if call.function is not None else None
        if not name:
            raise invalid()
        call_id = call.id or call_id_of(request_id, number)
        arguments = arguments_of(call.function)
        block = {"type": "tool_use", "id": call_id, "name": name, "input": _input(arguments)}
        blocks.append(block)
    return blocks


def call_id_of(request_id: str, number: int) -> str:
    """Return the id of a call that its upstream gave none."""
    return f"toolu_{request_id}_{number}"


def _input(arguments: str) -> object:
    if not arguments.strip():
        return {}
    return msgspec.Raw(arguments.encode()) if is_object(arguments) else {"INVALID_JSON": arguments}


def _usage(usage: _Usage) -> dict[str, Any]:
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    cached = prompt.cached_tokens if prompt is not None else None
    if cached is None:
        cached = usage.prompt_cache_hit_tokens
    reasoning = completion.reasoning_tokens if completion is not None else None
    return usage_object(
        usage.prompt_tokens,
        usage.completion_tokens,
        cached=int(cached or 0),
        reasoning=int(reasoning or 0),
    )
