"""How each kind of upstream is told a constraint; pure.

Vendors that are not named take OpenAI's fields. Source: vLLM `docs/features/structured_outputs`
(0.12 and later); triton-inference-server vllm_backend `src/utils/request.py`; SGLang `structured
outputs` and its chat protocol; OpenAI API reference, `response_format`; TensorRT-LLM
`tensorrt_llm/serve/openai_protocol.py` and `GuidedDecodingParams`; Together and Fireworks,
structured outputs (all read 2026-11).
"""

import re
from typing import Final

import msgspec

from services.router.constraints import CONSTRAINTS, JSON_KINDS, Constraint, Kind
from services.router.providers.refusals import unsupported

CHOICE_KEY: Final = "choice"
"""Where a choice stands in the object that an upstream without choices is made to answer."""

_METACHARACTERS: Final = re.compile(r"([\\.^$|?*+()\[\]{}])")
_WHITESPACE: Final = "guided_whitespace_pattern"
_TRUE: Final = msgspec.Raw(b"true")
_WRAPPING: Final = frozenset(
    {"openai", "anthropic", "bedrock"} | {"fireworks", "hyperbolic", "mistral", "openrouter", "xai"}
)
"""Engines that know schemas and no choices."""

_SERVED: Final = {
    **dict.fromkeys(_WRAPPING, JSON_KINDS | {Kind.FREE, Kind.CHOICE}),
    "deepseek": frozenset({Kind.FREE, Kind.JSON_OBJECT}),
    "fireworks": JSON_KINDS | {Kind.FREE, Kind.CHOICE, Kind.GRAMMAR},
    "sglang": frozenset(Kind),
    "together": JSON_KINDS | {Kind.FREE, Kind.CHOICE, Kind.REGEX},
    "trtllm": frozenset(Kind),
    "vllm": frozenset(Kind),
}


def put_constraint(request: dict[str, object], constraint: Constraint, engine: str) -> None:
    """Say a constraint in the fields of a chat completion that an engine knows.

    Raises:
        ProviderError: UNSUPPORTED: the engine cannot keep to it.
    """
    if is_wrapped(constraint, engine) and request.get("logprobs") == _TRUE:
        # They would be those of the object around the choice.
        raise unsupported(constraint.param)
    for name in CONSTRAINTS.intersection(request):
        del request[name]
    if constraint.kind not in _SERVED[engine]:
        raise unsupported(constraint.param)
    if engine == "vllm":
        request |= _vllm_fields(constraint)
    elif constraint.response_format is not None:
        request["response_format"] = constraint.response_format
    else:
        request |= _FIELDS.get(engine, _openai_fields)(constraint)


def structured_outputs(constraint: Constraint) -> dict[str, object]:
    """Return vLLM's structured output parameters; empty when nothing is constrained."""
    kind = constraint.kind
    if kind is Kind.FREE:
        return {}
    found: dict[str, object]
    if kind is Kind.JSON_OBJECT:
        found = {"json_object": True}
    elif kind is Kind.JSON_SCHEMA:
        found = {"json": constraint.json}
    elif kind is Kind.CHOICE:
        found = {"choice": constraint.choices}
    elif kind is Kind.STRUCTURAL_TAG:
        found = {"structural_tag": bytes(constraint.json).decode()}
    else:
        found = {str(kind): constraint.text}
    if constraint.whitespace_pattern and kind in JSON_KINDS:
        found["whitespace_pattern"] = constraint.whitespace_pattern
    return found


def ignored_hints(constraint: Constraint, engine: str) -> tuple[str, ...]:
    """Return the best-effort fields of a request that mean nothing to an engine."""
    is_heard = engine in ("vllm", "triton") and constraint.kind in JSON_KINDS
    return tuple(name for name in constraint.hints if not (is_heard and name == _WHITESPACE))


def is_wrapped(constraint: Constraint, engine: str) -> bool:
    """Return whether the engine answers a choice as an object that holds it."""
    return engine in _WRAPPING and constraint.kind is Kind.CHOICE


def choice_schema(constraint: Constraint) -> msgspec.Raw:
    """Return the schema of the object that holds a choice."""
    choices = list(dict.fromkeys(constraint.choices))
    schema = {
        "type": "object",
        "properties": {CHOICE_KEY: {"type": "string", "enum": choices}},
        "required": [CHOICE_KEY],
        "additionalProperties": False,
    }
    return msgspec.Raw(msgspec.json.encode(schema))


def _vllm_fields(constraint: Constraint) -> dict[str, object]:
    if constraint.response_format is not None and not constraint.whitespace_pattern:
        return {"response_format": constraint.response_format}
    found = structured_outputs(constraint)
    return {"structured_outputs": found} if found else {}


def _sglang_fields(constraint: Constraint) -> dict[str, object]:
    kind = constraint.kind
    if kind is Kind.JSON_SCHEMA:
        return _json_schema(constraint.param, constraint.json)
    if kind is Kind.CHOICE:
        return {"regex": _alternatives(constraint)}
    if kind is Kind.STRUCTURAL_TAG:
        return {"response_format": constraint.json}
    if kind is Kind.FREE:
        return {}
    return {"regex" if kind is Kind.REGEX else "ebnf": constraint.text}


def _alternatives(constraint: Constraint) -> str:
    """Return the regular expression of a choice."""
    escaped = (_METACHARACTERS.sub(r"\\\1", choice) for choice in constraint.choices)
    return f"({'|'.join(escaped)})"


def _trtllm_fields(constraint: Constraint) -> dict[str, object]:
    kind = constraint.kind
    if kind is Kind.STRUCTURAL_TAG:
        return {"response_format": constraint.json}
    if kind is Kind.GRAMMAR:
        return {"response_format": {"type": "ebnf", "ebnf": constraint.text}}
    if kind in (Kind.REGEX, Kind.CHOICE):
        regex = _alternatives(constraint) if kind is Kind.CHOICE else constraint.text
        return {"response_format": {"type": "regex", "regex": regex}}
    return _openai_fields(constraint)


def _together_fields(constraint: Constraint) -> dict[str, object]:
    kind = constraint.kind
    if kind in (Kind.REGEX, Kind.CHOICE):
        regex = _alternatives(constraint) if kind is Kind.CHOICE else constraint.text
        return {"response_format": {"type": "regex", "pattern": regex}}
    return _openai_fields(constraint)


def _fireworks_fields(constraint: Constraint) -> dict[str, object]:
    if constraint.kind is Kind.GRAMMAR:
        return {"response_format": {"type": "grammar", "grammar": constraint.text}}
    return _openai_fields(constraint)


def _openai_fields(constraint: Constraint) -> dict[str, object]:
    if constraint.kind is Kind.FREE:
        return {}
    if constraint.kind is Kind.JSON_SCHEMA:
        return _json_schema(constraint.param, constraint.json)
    return _json_schema(constraint.param, choice_schema(constraint))


_FIELDS: Final = {
    "fireworks": _fireworks_fields,
    "sglang": _sglang_fields,
    "together": _together_fields,
    "trtllm": _trtllm_fields,
}


def trtllm_guide(constraint: Constraint) -> tuple[str, str]:
    """Return type and text of TensorRT-LLM's guide; an empty type when nothing is constrained.

    Raises:
        ProviderError: UNSUPPORTED: it has no guide of this kind.
    """
    kind = constraint.kind
    if kind is Kind.FREE:
        return "", ""
    if kind is Kind.JSON_OBJECT:
        return "json", ""
    if kind is Kind.JSON_SCHEMA:
        return "json_schema", bytes(constraint.json).decode()
    if kind is Kind.CHOICE:
        return "regex", _alternatives(constraint)
    if kind is Kind.STRUCTURAL_TAG:
        raise unsupported(constraint.param)
    return ("regex" if kind is Kind.REGEX else "ebnf_grammar"), constraint.text


def _json_schema(name: str, schema: msgspec.Raw) -> dict[str, object]:
    part = {"name": name, "schema": schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": part}}
