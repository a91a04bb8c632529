"""Fields about how a prompt is made, for upstreams that speak OpenAI; pure.

Which of them an upstream knows is its engine's: vLLM takes all, SGLang the arguments of templates,
anything else neither. Of the arguments one can be said to others, whether to think first, if the
deployment's owner says how.
"""

from typing import Final

import msgspec

from services.router.providers.port import Call, Failure, ProviderError

PROMPT_FIELDS: Final = frozenset({"chat_template", "chat_template_kwargs", "mm_processor_kwargs"})
_FORWARDED: Final = {
    "vllm": PROMPT_FIELDS,
    "sglang": frozenset({"chat_template_kwargs"}),
}
_BEST_EFFORT: Final = "chat_template_kwargs"
_EFFORT_FIELD: Final = "reasoning_effort"
_EFFORTS: Final = {True: "medium", False: "none"}


class _Arguments(msgspec.Struct):
    enable_thinking: bool | None = None


_arguments: Final = msgspec.json.Decoder(_Arguments).decode
_names: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def put_prompt_fields(call: Call, request: dict[str, object]) -> None:
    """Change a request with such fields so that it holds only what its upstream knows.

    Raises:
        ProviderError: UNSUPPORTED, with `param`: the engine does not know one that changes the
            answer.
    """
    forwarded = _FORWARDED.get(call.options.get("engine", ""), frozenset())
    for name in sorted(PROMPT_FIELDS.intersection(request) - forwarded):
        if name != _BEST_EFFORT:
            raise ProviderError(
                Failure.UNSUPPORTED,
                f"{name} is not supported by this deployment.",
                status=400,
                param=name,
            )
        effort = _effort(call, request.pop(name))
        if effort:
            request.setdefault(_EFFORT_FIELD, effort)


def ignored_prompt_fields(call: Call, body: dict[str, msgspec.Raw]) -> list[str]:
    """Return which of the fields are dropped or only said in part, for the caller to know."""
    if _BEST_EFFORT not in body or call.options.get("engine", "") in _FORWARDED:
        return []
    raw = body[_BEST_EFFORT]
    is_said = bool(_effort(call, raw)) and _EFFORT_FIELD not in body and len(_names(raw)) == 1
    return [] if is_said else [_BEST_EFFORT]


def _effort(call: Call, raw: object) -> str:
    """Return what `enable_thinking` is called here; empty for nothing."""
    if call.options.get("thinking") != _EFFORT_FIELD or not isinstance(raw, msgspec.Raw):
        return ""
    try:
        is_wanted = _arguments(raw).enable_thinking
    except msgspec.DecodeError:
        return ""
    return "" if is_wanted is None else _EFFORTS[is_wanted]
