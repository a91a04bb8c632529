"""What a deployment can honour beyond plain text: features by kind and engine; pure.

A feature is the name of a semantic parameter; `name>level` is one that reaches further. Source:
`facts/features.md` sections 6.1 to 6.4.
"""

from collections.abc import Iterable
from typing import Final

_SAMPLING: Final = frozenset(
    {"frequency_penalty", "presence_penalty", "stop", "temperature>1"}
    | {"response_format", "guided_json", "guided_choice"}
)
_VLLM_SAMPLING: Final = frozenset(
    {"top_k", "min_p", "repetition_penalty", "min_tokens", "stop_token_ids", "stop>4"}
    | {"include_stop_str_in_output", "ignore_eos", "bad_words", "skip_special_tokens"}
)
_GRAMMARS: Final = frozenset({"guided_regex", "guided_grammar", "structural_tag"})
_CHAT: Final = frozenset(
    {"tools", "tool_choice", "parallel_tool_calls", "n", "logprobs", "top_logprobs"}
    | {"logit_bias", "image_url"}
)
_OPENAI: Final = (
    _SAMPLING
    | _CHAT
    | {"top_logprobs>5", "functions", "function_call", "file", "input_audio", "modalities", "audio"}
    | {"prediction", "web_search_options", "suffix", "dimensions", "best_of", "echo"}
)
_VLLM: Final = (
    _SAMPLING
    | _CHAT
    | _VLLM_SAMPLING
    | _GRAMMARS
    | {"top_logprobs>5", "chat_template", "mm_processor_kwargs", "best_of", "echo", "dimensions"}
)
_SGLANG: Final = _SAMPLING | _CHAT | _VLLM_SAMPLING | _GRAMMARS | {"top_logprobs>5"}
_TRITON: Final = (
    _SAMPLING
    | _VLLM_SAMPLING
    | _GRAMMARS
    | {"chat_template", "image_url", "echo", "dimensions"}
    | {"n", "logprobs", "top_logprobs", "top_logprobs>5"}
)
"""What a model's own inputs decide is refused by its adapter, which knows them."""

_GEMINI: Final = _SAMPLING | {
    "top_k",
    "tools",
    "tool_choice",
    "image_url",
    "file",
    "input_audio",
    "dimensions",
}
_ANTHROPIC: Final = frozenset(
    {"tools", "tool_choice", "parallel_tool_calls", "image_url", "tool_images", "file"}
    | {"stop", "stop>4", "top_k", "response_format", "guided_json", "guided_choice"}
)
_BEDROCK: Final = frozenset(
    {"stop", "top_k", "tools", "tool_choice", "image_url", "tool_images", "file"}
    | {"response_format", "guided_json", "guided_choice"}
)
_PROMPTED: Final = frozenset({"top_k", "repetition_penalty", "temperature>1"})
"""What containers take that are given a prompt."""

_TOOLS: Final = frozenset({"tools", "tool_choice"})
_LOGPROBS: Final = frozenset({"logprobs", "top_logprobs"})
_PENALTIES: Final = frozenset({"frequency_penalty", "presence_penalty"})
_FILTERS: Final = frozenset({"top_k", "min_p", "repetition_penalty"})
_TRTLLM: Final = (_VLLM | {"structural_tag"}) - {
    "chat_template",
    "bad_words",
    "parallel_tool_calls",
}
_TOGETHER: Final = (
    _SAMPLING | _TOOLS | _FILTERS | {"n", "logit_bias", "image_url", "guided_regex", "echo"}
)
_DEEPSEEK: Final = (
    (_SAMPLING - {"guided_json", "guided_choice"}) | _TOOLS | _LOGPROBS | {"stop>4"}
) | {"top_logprobs>5", "suffix", "echo"}
_FIREWORKS: Final = (
    _SAMPLING | _CHAT | _FILTERS | {"ignore_eos", "guided_grammar", "prediction", "echo"}
) | {"dimensions"}
_MISTRAL: Final = (
    (_SAMPLING - {"temperature>1"})
    | _TOOLS
    | {"parallel_tool_calls", "n", "image_url", "top_k", "repetition_penalty", "min_tokens"}
    | {"prediction", "suffix", "dimensions"}
)
_HYPERBOLIC: Final = _SAMPLING | {"top_k", "image_url"}
_XAI: Final = (
    (_SAMPLING - _PENALTIES) | _TOOLS | _LOGPROBS | {"parallel_tool_calls", "n", "image_url"}
)
_OPENROUTER: Final = (
    _SAMPLING
    | (_CHAT - {"n"})
    | _FILTERS
    | {"top_logprobs>5", "file", "input_audio", "prediction", "dimensions"}
)

_TRITON_TEXT: Final = frozenset({"chat_template", "echo", "stop", "stop>4", "temperature>1"})
_TRITON_BLS: Final = _TRITON_TEXT | {
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "top_k",
    "min_tokens",
    "bad_words",
    "include_stop_str_in_output",
    "response_format",
    "guided_json",
    "guided_choice",
    "guided_regex",
    "guided_grammar",
}
_TRITON_API: Final = _TRITON_TEXT | {"frequency_penalty", "presence_penalty", "top_k"}

BY_ENGINE: Final = {
    "openai": _OPENAI,
    "vllm": _VLLM,
    "sglang": _SGLANG,
    "trtllm": _TRTLLM,
    "triton": _TRITON,
    "together": _TOGETHER,
    "deepseek": _DEEPSEEK,
    "fireworks": _FIREWORKS,
    "mistral": _MISTRAL,
    "hyperbolic": _HYPERBOLIC,
    "xai": _XAI,
    "openrouter": _OPENROUTER,
    "gemini": _GEMINI,
    "anthropic": _ANTHROPIC,
    "bedrock": _BEDROCK,
    "tgi": _PROMPTED,
    "lmi": _PROMPTED,
    "llama-jumpstart": frozenset({"temperature>1"}),
    "embedder": frozenset[str](),
    "triton/trtllm_bls": _TRITON_BLS,
    "triton/trtllm_llmapi": _TRITON_API,
    "triton/custom": _TRITON_TEXT | {"include_stop_str_in_output"},
}
"""By engine; behind a slash is the contract of a model on Triton, where its owner tells it."""

_WHERE_IT_REASONS: Final = {
    "openai": _PENALTIES
    | _LOGPROBS
    | {"temperature>1", "top_logprobs>5", "n", "logit_bias"}
    | {"stop", "stop>4"},
    "deepseek": _PENALTIES | _LOGPROBS | {"top_logprobs>5"},
    "xai": frozenset({"stop", "stop>4"}),
}
"""What models that reason refuse, or leave unheard, where others of the same engine do not."""

NATIVE_FORMAT: Final = "response_format>native"
"""What a deployment supports whose model can be held to a schema by itself; nothing asks for it."""

FEATURES: Final = frozenset({"tool_images", NATIVE_FORMAT}).union(*BY_ENGINE.values())
"""Every feature that a route can have; no engine has them all by itself."""

EVERY_ROUTE: Final = (
    "max_tokens",
    "max_completion_tokens",
    "stream",
    "stream_options",
    "temperature",
    "top_p",
    "timeout_ms",
    "routing_strategy",
    "allow_external",
    "max_input_price_per_million",
    "max_output_price_per_million",
    "provider",
    "models",
)
"""Parameters that do not depend on the route."""

_CONTENT: Final = frozenset({"image_url", "file", "input_audio", "tool_images"})


def capabilities(
    engine: str,
    *,
    supports: Iterable[str] = (),
    lacks: Iterable[str] = (),
    reasons: bool = False,
) -> frozenset[str]:
    """Return the features of a deployment: its engine's, with what its owner knows better.

    `reasons` tells that its model does so by itself, which costs features at some vendors.
    """
    found = BY_ENGINE[engine]
    if reasons:
        found -= _WHERE_IT_REASONS.get(engine, frozenset())
    return found.union(supports).difference(lacks)


def parameters(features: Iterable[str]) -> list[str]:
    """Return the request parameters that stand for features, with those of every route."""
    named = {param_of(feature) for feature in features} - {"messages"}
    return sorted(named.union(EVERY_ROUTE))


def param_of(feature: str) -> str:
    """Return the request field that asks for a feature."""
    return "messages" if feature in _CONTENT else feature.partition(">")[0]
