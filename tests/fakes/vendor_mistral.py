"""What Mistral refuses and how it answers, as its own SDK has it (mistralai 3.7)."""

import re
from typing import Any, Final

from tests.fakes.vendor_basics import SECRET, Refusal, Value, bare, places

_MISTRAL: Final = frozenset(
    {"model", "messages", "prompt", "suffix", "temperature", "top_p", "max_tokens", "stream"}
    | {"stop", "random_seed", "metadata", "response_format", "tools", "tool_choice", "n"}
    | {"presence_penalty", "frequency_penalty", "min_tokens", "repetition_penalty", "top_k"}
    | {"prediction", "parallel_tool_calls", "reasoning_effort", "prompt_cache_key"}
)
_MISTRAL_MEMBERS: Final = {
    "system": {"role", "content"},
    "user": {"role", "content"},
    "assistant": {"role", "content", "tool_calls", "prefix"},
    "tool": {"role", "content", "tool_call_id", "name"},
}


def _extra_forbidden(where: list[Any]) -> Refusal:
    fault = {"type": "extra_forbidden", "loc": ["body", *where], "msg": SECRET, "input": SECRET}
    message = {"detail": [fault]}
    kind = "invalid_request_error"
    return Refusal(422, {"object": "error", "message": message, "type": kind, "code": None})


def mistral_refusal(body: Value, path: str) -> Refusal | None:
    if extra := sorted(body.keys() - _MISTRAL):
        return _extra_forbidden([extra[0]])
    for index, message in enumerate(body.get("messages", [])):
        known = _MISTRAL_MEMBERS.get(message["role"], set())
        if extra := sorted(message.keys() - known):
            return _extra_forbidden(["messages", index, message["role"], extra[0]])
        ids = [call["id"] for call in message.get("tool_calls") or ()]
        ids += [message["tool_call_id"]] if "tool_call_id" in message else []
        if not all(re.fullmatch("[A-Za-z0-9]{9}", one) for one in ids):
            error = {"object": "error", "message": SECRET, "type": "invalid_function_call"}
            return Refusal(400, {**error, "param": None, "code": "3280"})
    return None


def mistral_spelled(value: Value, path: str) -> Value:
    found = bare(value)
    found.pop("system_fingerprint", None)
    is_chunk = "delta" in (found["choices"] or [{}])[0]
    for said in places(found):
        if thought := said.pop("reasoning_content", None):
            part = {"type": "thinking", "thinking": [{"type": "text", "text": thought}]}
            text = [{"type": "text", "text": said["content"]}] if said.get("content") else []
            said["content"] = [part, *text]
        for index, call in enumerate(said.get("tool_calls") or ()):
            call["index"] = call.get("index", index)
        if not is_chunk:
            said.setdefault("tool_calls", None)
    if usage := found.get("usage"):
        del usage["prompt_tokens_details"], usage["completion_tokens_details"]
        usage["prompt_audio_seconds"] = None
    if is_chunk:
        found["p"] = "abcdefgh"[: 1 + len(str(found)) % 8]
    return found


def whole_calls(chunks: list[Value]) -> list[Value]:
    """Return the chunks of a stream in which each tool call comes in one piece."""
    calls: dict[int, Value] = {}
    found = []
    for chunk in chunks:
        delta = chunk["choices"][0]["delta"] if chunk["choices"] else {}
        for fragment in delta.get("tool_calls", ()):
            if fragment["index"] in calls:
                arguments = fragment["function"]["arguments"]
                calls[fragment["index"]]["function"]["arguments"] += arguments
                break
            calls[fragment["index"]] = fragment
        else:
            found.append(chunk)
    return found
