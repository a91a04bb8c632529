"""How engines that speak OpenAI's API spell an answer: what they add, leave out and write as null.

Each manner takes an answer or a chunk as OpenAI itself has it and returns the bytes of the engine.
Modelled on vLLM, as of 0.8 and since, and on SGLang; `bare` is the least a server can say.
"""

import copy
import json
from collections.abc import Callable
from typing import Any, Final

Value = dict[str, Any]


def _compact(value: Value) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _spaced(value: Value) -> bytes:
    return json.dumps(value).encode()


def _sorted(value: Value) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def _bare(value: Value) -> bytes:
    """Leave out whatever is null, and what only OpenAI has."""
    found = _without_nulls({k: v for k, v in value.items() if k not in _OPENAI_ONLY})
    for choice in found["choices"]:
        if choice["index"] == 0:
            del choice["index"]
    return _compact(found)


def _vllm(value: Value) -> bytes:
    """Write out every member of its own answers; chunks have only what was set."""
    found = _of_engine(value)
    is_chunk = value["object"] == "chat.completion.chunk"
    for choice in found["choices"]:
        choice["token_ids"] = None
        if choice["finish_reason"] is not None:
            choice["stop_reason"] = None
        if not is_chunk:
            unsaid = dict.fromkeys(("refusal", "annotations", "audio", "function_call"))
            thought = choice["message"].pop("reasoning_content", None)
            choice["message"] = {"tool_calls": [], **unsaid, **choice["message"]}
            choice["message"] |= {"reasoning": thought, "reasoning_content": thought}
    if is_chunk:
        return _compact({**found, "prompt_token_ids": None})
    nothing = ("service_tier", "system_fingerprint", "prompt_logprobs", "prompt_token_ids")
    return _compact({**found, **dict.fromkeys((*nothing, "kv_transfer_params"))})


def _old_vllm(value: Value) -> bytes:
    """Know of no refusal, of which log probabilities are no part either."""
    found = _of_engine(value)
    for choice in found["choices"]:
        choice["stop_reason"] = None
        if "message" in choice:
            said = _without_nulls(choice["message"])
            nothing: Value = {"content": None, "reasoning_content": None, "tool_calls": []}
            choice["message"] = {**nothing, **said}
    return _compact(found)


def _sglang(value: Value) -> bytes:
    """Write out every member of a delta as well."""
    found = _of_engine(value)
    nulls = dict.fromkeys(("role", "content", "reasoning_content", "tool_calls"))
    for choice in found["choices"]:
        choice["matched_stop"] = None
        for name in ("message", "delta"):
            if name in choice:
                choice[name] = {**nulls, **_without_nulls(choice[name])}
    if found.get("usage"):
        found["usage"]["reasoning_tokens"] = 0
    return _compact({**found, "usage": found.get("usage")})


def _of_engine(value: Value) -> Value:
    """Return an answer with what engines of one's own do not have taken out."""
    found = copy.deepcopy({k: v for k, v in value.items() if k not in _OPENAI_ONLY})
    for choice in found["choices"]:
        if choice.get("logprobs"):
            del choice["logprobs"]["refusal"]
    if found.get("usage"):
        del found["usage"]["completion_tokens_details"]
        found["usage"]["prompt_tokens_details"] = None
    return found


def _without_nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nulls(one) for one in value]
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return value


_OPENAI_ONLY: Final = frozenset({"system_fingerprint", "service_tier"})
MANNERS: Final[dict[str, Callable[[Value], bytes]]] = {
    "openai": _compact,
    "spaced": _spaced,
    "sorted": _sorted,
    "bare": _bare,
    "vllm": _vllm,
    "old-vllm": _old_vllm,
    "sglang": _sglang,
}
