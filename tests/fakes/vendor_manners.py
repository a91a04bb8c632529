"""What each vendor that speaks OpenAI knows of a request, refuses, and how it writes an answer.

Sources as of `services/router/providers/openai/profiles.py`; the words are the vendors'.
"""

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tests.fakes.vendor_basics import SECRET, Refusal, Value, bare, openai_error, places
from tests.fakes.vendor_mistral import mistral_refusal, mistral_spelled, whole_calls


def _nothing_refused(body: Value, path: str) -> Refusal | None:
    return None


def _as_it_is(value: Value, path: str) -> Value:
    return value


def understood(body: Value) -> Value:
    """Return a request in the words of the fake model."""
    found = copy.deepcopy(body)
    if found.get("tool_choice") == "any":
        found["tool_choice"] = "required"
    if "prompt" in found:
        found["messages"] = [{"role": "user", "content": found.pop("prompt")}]
    form = found.get("response_format") or {}
    if form.get("type") == "regex":
        found["structured_outputs"] = {"choice": [_example(form)]}
    if form.get("type") in ("grammar", "ebnf"):
        found["structured_outputs"] = {"choice": ["a"]}
    return found


def _example(form: Value) -> str:
    pattern = str(form.get("pattern") or form.get("regex"))
    return re.sub(r"\\(.)", r"\1", pattern.strip("()").split("|")[0].replace("+", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """One vendor."""

    refusal: Callable[[Value, str], Refusal | None] = _nothing_refused
    spelled: Callable[[Value, str], Value] = _as_it_is
    overloaded: Refusal = field(default_factory=lambda: openai_error(503, "overloaded"))
    unauthorized: Refusal = field(default_factory=lambda: openai_error(401, "invalid_api_key"))
    late_error: Value = field(default_factory=lambda: {"error": {"message": SECRET, "code": 502}})
    streamed: Callable[[list[Value]], list[Value]] = list
    broken: str = "error"
    usage_at_end: bool = False
    counts_cache: bool = True
    comment: bytes = b""
    blank: bytes = b""


# DeepSeek


def _deepseek_refusal(body: Value, path: str) -> Refusal | None:
    form = (body.get("response_format") or {}).get("type")
    if form == "json_schema":
        return openai_error(400, "invalid_request_error")
    for message in body.get("messages", []):
        if message["role"] == "developer" or isinstance(message.get("content"), list):
            return Refusal(422, {"error": {"message": "Failed to deserialize", "type": "x"}})
        if message.get("tool_calls") and not message.get("reasoning_content"):
            return openai_error(400, "invalid_request_error")
    return None


def _deepseek_spelled(value: Value, path: str) -> Value:
    found = bare(value)
    for said in places(found):
        said.setdefault("reasoning_content", None)
    if usage := found.get("usage"):
        hit = usage["prompt_tokens_details"]["cached_tokens"]
        del usage["prompt_tokens_details"]
        usage["prompt_cache_hit_tokens"] = hit
        usage["prompt_cache_miss_tokens"] = usage["prompt_tokens"] - hit
    return _as_text(found) if path.endswith("/completions") and "chat" not in path else found


def _as_text(found: Value) -> Value:
    """Return a chat's answer as one of a text completion."""
    found.pop("service_tier", None)
    for choice in found["choices"]:
        said = choice.pop("message", None) or choice.pop("delta", {})
        choice["text"] = said.get("content") or ""
    found["object"] = "text_completion"
    return found


def _plain_spelled(value: Value, path: str) -> Value:
    found = bare(value)
    return _as_text(found) if "chat" not in path else found


# Fireworks

_FIREWORKS: Final = frozenset(
    {"model", "messages", "prompt", "tools", "tool_choice", "parallel_tool_calls", "n", "stop"}
    | {"max_tokens", "max_completion_tokens", "temperature", "top_k", "top_p", "min_p", "stream"}
    | {"frequency_penalty", "presence_penalty", "repetition_penalty", "seed", "user", "metadata"}
    | {"logprobs", "top_logprobs", "logit_bias", "response_format", "prediction"}
    | {"context_length_exceeded_behavior", "reasoning_effort", "ignore_eos", "echo"}
)


def _fireworks_refusal(body: Value, path: str) -> Refusal | None:
    extra = sorted(body.keys() - _FIREWORKS)
    for index, message in enumerate(body.get("messages", [])):
        known = {"role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content"}
        extra += [f"messages[{index}].{name}" for name in message.keys() - known]
    if extra:
        text = f"Extra inputs are not permitted, field: '{extra[0]}', value: 1"
        return Refusal(400, {"error": {"message": text, "type": "invalid_request_error"}})
    if body.get("context_length_exceeded_behavior") != "error":
        return openai_error(400, "truncates")
    return None


def _fireworks_spelled(value: Value, path: str) -> Value:
    found = _plain_spelled(value, path)
    if "usage" in found:
        found["perf_metrics"] = {"server-time": "1"}
    return found


# Hyperbolic


def _hyperbolic_refusal(body: Value, path: str) -> Refusal | None:
    if body.get("tools") or any(m["role"] == "developer" for m in body.get("messages", [])):
        return Refusal(400, {"detail": SECRET})
    return None


# OpenAI, where the model reasons


def _openai_refusal(body: Value, path: str) -> Refusal | None:
    """Refuse what models that reason do not take; others are called `upstream-plain` here."""
    if body["model"] == "upstream-plain":
        return None
    for name in ("temperature", "top_p", "presence_penalty", "logprobs", "stop", "max_tokens"):
        if name in body and "chat" in path:
            error = {"message": SECRET, "type": "invalid_request_error", "param": name}
            return Refusal(400, {"error": {**error, "code": "unsupported_parameter"}})
    return None


def _openai_spelled(value: Value, path: str) -> Value:
    return value if "chat" in path else _as_text(copy.deepcopy(value))


# OpenRouter


def _openrouter_refusal(body: Value, path: str) -> Refusal | None:
    if body.get("provider", {}).get("require_parameters") is not True or "n" in body:
        return Refusal(404, {"error": {"code": 404, "message": SECRET}})
    return None


def _openrouter_spelled(value: Value, path: str) -> Value:
    found = {"id": "gen-1", "provider": "Some Host", **bare(value)}
    for choice, said in zip(found["choices"], places(found), strict=True):
        choice["native_finish_reason"] = choice.get("finish_reason")
        thought = said.pop("reasoning_content", None)
        said["reasoning"] = thought
        said["reasoning_details"] = (
            [{"type": "reasoning.text", "text": thought, "format": "x", "index": 0}]
            if thought
            else []
        )
    if usage := found.get("usage"):
        usage |= {"cost": 0.95, "is_byok": False, "cost_details": {"upstream_inference_cost": 1}}
    return _as_text(found) if "chat" not in path else found


# Together


def _together_spelled(value: Value, path: str) -> Value:
    found = bare(value)
    for choice, said in zip(found["choices"], places(found), strict=True):
        if "delta" in choice and "chat" in path:
            choice["text"] = said.get("content") or ""
            said["token_id"] = 7
        choice["seed"] = 11
        if thought := said.pop("reasoning_content", None):
            said["reasoning"] = thought
        if choice.get("finish_reason") == "stop":
            choice["finish_reason"] = "eos"
    if found["object"] == "chat.completion":
        found["prompt"] = []
    if usage := found.get("usage"):
        usage["cached_tokens"] = usage["prompt_tokens_details"]["cached_tokens"]
    return _as_text(found) if "chat" not in path else found


# TensorRT-LLM

_TRTLLM: Final = frozenset(
    {"model", "messages", "prompt", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs"}
    | {"max_completion_tokens", "max_tokens", "n", "presence_penalty", "response_format", "seed"}
    | {"stop", "stream", "stream_options", "temperature", "top_p", "tools", "tool_choice", "user"}
    | {"reasoning_effort", "top_k", "min_p", "repetition_penalty", "chat_template_kwargs", "echo"}
)


def _trtllm_refusal(body: Value, path: str) -> Refusal | None:
    if extra := sorted(body.keys() - _TRTLLM):
        error = {"object": "error", "type": "BadRequestError", "param": None, "code": 400}
        return Refusal(400, {**error, "message": f"{extra[0]} {SECRET}"})
    return None


def _trtllm_spelled(value: Value, path: str) -> Value:
    found = bare(value)
    del found["system_fingerprint"]
    for choice, said in zip(found["choices"], places(found), strict=True):
        said["reasoning"] = said.get("reasoning_content")
        choice["avg_decoded_tokens_per_iter"] = 1.0
        choice["stop_reason"] = None
    return _as_text(found) if "chat" not in path else found


# xAI


def _xai_refusal(body: Value, path: str) -> Refusal | None:
    for name, said in (("presence_penalty", "presencePenalty"), ("logit_bias", "logitBias")):
        if name in body:
            text = f"Argument not supported on this model: {said}"
            return Refusal(400, {"code": "Client specified an invalid argument", "error": text})
    if any("strict" in tool["function"] for tool in body.get("tools") or ()):
        return Refusal(400, {"code": "Client specified an invalid argument", "error": SECRET})
    return None


def _xai_spelled(value: Value, path: str) -> Value:
    """Count what was thought beside the completion, in the total."""
    found = bare(value)
    if usage := found.get("usage"):
        details = usage["completion_tokens_details"]
        usage["completion_tokens"] -= details["reasoning_tokens"]
        usage["prompt_tokens_details"] |= {"text_tokens": 11, "image_tokens": 0}
        usage |= {"num_sources_used": 0, "cost_in_usd_ticks": 12345}
    return found


_MISTRAL_ERROR: Final = {"object": "error", "message": SECRET, "type": "x", "code": "3505"}
_XAI_ERROR: Final = {"code": "The service is currently unavailable", "error": SECRET}
MANNERS: Final[dict[str, Manner]] = {
    "openai": Manner(refusal=_openai_refusal, spelled=_openai_spelled),
    "together": Manner(spelled=_together_spelled, usage_at_end=True),
    "deepseek": Manner(
        refusal=_deepseek_refusal,
        spelled=_deepseek_spelled,
        broken="insufficient_system_resource",
        comment=b": keep-alive\n\n: keep-alive\n\n",
        blank=b"\n\n\n",
        usage_at_end=True,
    ),
    "fireworks": Manner(refusal=_fireworks_refusal, spelled=_fireworks_spelled, usage_at_end=True),
    "mistral": Manner(
        refusal=mistral_refusal,
        spelled=mistral_spelled,
        streamed=whole_calls,
        overloaded=Refusal(503, _MISTRAL_ERROR),
        unauthorized=Refusal(401, {"detail": "Unauthorized"}),
        late_error={**_MISTRAL_ERROR, "code": 1300},
        usage_at_end=True,
        counts_cache=False,
    ),
    "hyperbolic": Manner(
        refusal=_hyperbolic_refusal,
        spelled=_plain_spelled,
        overloaded=Refusal(503, {"detail": SECRET}),
        unauthorized=Refusal(401, {"detail": "Could not validate credentials"}),
    ),
    "vllm": Manner(spelled=_plain_spelled),
    "xai": Manner(
        refusal=_xai_refusal,
        spelled=_xai_spelled,
        overloaded=Refusal(503, _XAI_ERROR),
        unauthorized=Refusal(
            400, {"code": "Client specified an invalid argument", "error": "Incorrect API key x"}
        ),
        late_error=_XAI_ERROR,
    ),
    "openrouter": Manner(
        refusal=_openrouter_refusal,
        spelled=_openrouter_spelled,
        overloaded=Refusal(529, {"error": {"code": 529, "message": SECRET, "metadata": {}}}),
        late_error={
            "id": "gen-1",
            "object": "chat.completion.chunk",
            "error": {"code": 502, "message": SECRET},
            "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
        },
        comment=b": OPENROUTER PROCESSING\n\n",
    ),
    "trtllm": Manner(
        refusal=_trtllm_refusal,
        spelled=_trtllm_spelled,
        broken="cancelled",
        overloaded=Refusal(503, {"object": "error", "message": SECRET, "type": "x", "code": 503}),
    ),
}
"""By the name of the vendor or the engine."""
