"""What a request asks of the form of its answer, and whether a text keeps to it; pure.

The gateway has checked the fields; here they become one value that is mapped for each upstream
(`services.router.providers.constraint_fields`) and that a finished text is held against.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec

from kit.errors import Reason, TurnpikeError
from kit.json_schema import SchemaError, is_valid
from kit.regex import RegexError, is_full_match

TEXT_CHARS_MAX: Final = 65_536
"""Longest text that is held against a constraint; a longer one is left unjudged."""

_HINTS: Final = ("guided_decoding_backend", "guided_whitespace_pattern")
_GUIDES: Final = (
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "structural_tag",
)
CONSTRAINTS: Final = frozenset({"response_format", *_GUIDES, *_HINTS})
"""Request fields that are mapped and never forwarded as they came."""

_NOTHING: Final = frozenset({b"null", b"false", b"0", b"[]", b"{}", b'""'})
_USUAL: Final = frozenset({b"null", b"true"})
_RESHAPING: Final = {
    "stop": _NOTHING,
    "stop_token_ids": _NOTHING,
    "include_stop_str_in_output": _NOTHING,
    "ignore_eos": _NOTHING,
    "min_tokens": _NOTHING,
    "bad_words": _NOTHING,
    "logit_bias": _NOTHING,
    "echo": _NOTHING,
    "continue_final_message": _NOTHING,
    "skip_special_tokens": _USUAL,
    "spaces_between_special_tokens": _USUAL,
}
"""With one of these a text may break its constraint although the engine kept to it; the values
that change nothing."""

_OBJECT: Final = {"type": "object"}


class Kind(StrEnum):
    """What an answer is held to; FREE when there are only hints, or text is asked for."""

    FREE = "free"
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    CHOICE = "choice"
    GRAMMAR = "grammar"
    STRUCTURAL_TAG = "structural_tag"


JSON_KINDS: Final = frozenset({Kind.JSON_OBJECT, Kind.JSON_SCHEMA})
_JUDGED: Final = JSON_KINDS | {Kind.REGEX, Kind.CHOICE}


class Constraint(NamedTuple):
    """One constraint; `param` is the request field that it came from.

    `text` is a regular expression or a grammar, `json` a schema or a structural tag. `hints` are
    the best-effort fields that came with it. `is_judged` tells whether the finished text is held
    against it.
    """

    kind: Kind
    param: str = ""
    text: str = ""
    json: msgspec.Raw = msgspec.Raw(b"{}")
    choices: tuple[str, ...] = ()
    response_format: msgspec.Raw | None = None
    whitespace_pattern: str = ""
    hints: tuple[str, ...] = ()
    is_judged: bool = False


class _JsonSchema(msgspec.Struct):
    schema: msgspec.Raw
    strict: bool | None = None


class _Format(msgspec.Struct):
    type: str
    json_schema: _JsonSchema | None = None


def asked_constraint(operation: int, body: Mapping[str, msgspec.Raw]) -> Constraint | None:
    """Return the constraint that a chat's body asks for; None for none, and for other operations.

    Raises:
        TurnpikeError: As `constraint_of`.
    """
    if operation or CONSTRAINTS.isdisjoint(body):
        return None
    return constraint_of(body)


def constraint_of(body: Mapping[str, msgspec.Raw]) -> Constraint:
    """Return what a request with one of `CONSTRAINTS` asks for.

    Raises:
        TurnpikeError: `INVALID_VALUE`, when a field is not what the gateway lets through.
    """
    found = Constraint(Kind.FREE)
    for name in ("response_format", *_GUIDES):
        if _is_given(body, name):
            found = _read(name, body[name])
            break
    hints = tuple(name for name in _HINTS if _is_given(body, name))
    pattern = ""
    if "guided_whitespace_pattern" in hints:
        pattern = _decoded("guided_whitespace_pattern", body["guided_whitespace_pattern"], str)
    is_judged = found.kind in _JUDGED and found.is_judged and not _is_reshaped(body)
    return found._replace(hints=hints, whitespace_pattern=pattern, is_judged=is_judged)


def is_satisfied(constraint: Constraint, text: str) -> bool | None:
    """Return whether a finished text keeps to a judged constraint; None when it cannot be told."""
    if len(text) > TEXT_CHARS_MAX:
        return None
    if constraint.kind is Kind.CHOICE:
        return text in constraint.choices
    try:
        if constraint.kind is Kind.REGEX:
            return is_full_match(constraint.text, text)
        is_object = constraint.kind is Kind.JSON_OBJECT
        return is_valid(_OBJECT if is_object else msgspec.json.decode(constraint.json), text)
    except (RegexError, SchemaError):
        return None


def _is_given(body: Mapping[str, msgspec.Raw], name: str) -> bool:
    return name in body and bytes(body[name]) != b"null"


def _is_reshaped(body: Mapping[str, msgspec.Raw]) -> bool:
    return any(
        name in body and bytes(body[name]) not in harmless for name, harmless in _RESHAPING.items()
    )


def _read(name: str, raw: msgspec.Raw) -> Constraint:
    if name == "response_format":
        return _read_format(name, raw)
    if name == "guided_json":
        return Constraint(Kind.JSON_SCHEMA, name, json=raw, is_judged=True)
    if name == "guided_choice":
        choices = tuple(_decoded(name, raw, list[str]))
        return Constraint(Kind.CHOICE, name, choices=choices, is_judged=True)
    if name == "structural_tag":
        return Constraint(Kind.STRUCTURAL_TAG, name, json=raw)
    kind = Kind.REGEX if name == "guided_regex" else Kind.GRAMMAR
    return Constraint(kind, name, text=_decoded(name, raw, str), is_judged=True)


def _read_format(name: str, raw: msgspec.Raw) -> Constraint:
    wanted = _decoded(name, raw, _Format)
    if wanted.type == "text":
        return Constraint(Kind.FREE, name, response_format=raw)
    try:
        kind = Kind(wanted.type)
    except ValueError:
        raise _wrong(name) from None
    if kind is Kind.STRUCTURAL_TAG:
        return Constraint(kind, name, json=raw, response_format=raw)
    if kind is Kind.JSON_OBJECT:
        return Constraint(kind, name, response_format=raw, is_judged=True)
    if kind is not Kind.JSON_SCHEMA or wanted.json_schema is None:
        raise _wrong(name)
    # Who says `strict: false` takes what comes.
    is_judged = wanted.json_schema.strict is not False
    schema = wanted.json_schema.schema
    return Constraint(kind, name, json=schema, response_format=raw, is_judged=is_judged)


def _decoded(name: str, raw: msgspec.Raw, kind: Any) -> Any:  # noqa: ANN401 - any msgspec type
    try:
        return msgspec.json.decode(raw, type=kind)
    except (ValueError, RecursionError):
        raise _wrong(name) from None


def _wrong(name: str) -> TurnpikeError:
    return TurnpikeError(Reason.INVALID_VALUE, f"{name} cannot be read.", param=name)
