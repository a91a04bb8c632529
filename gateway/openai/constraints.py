"""What a request may ask of the form of an answer, checked before any money moves; pure.

`response_format`, vLLM's `guided_*` and `structural_tag`: one of them at most. Whether the text
kept to it is the router's to say.

Source: OpenAI API reference, chat completions, `response_format`; vLLM 0.11 `guided_*` and its
structural tags (documentation, read 2026-11).
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from gateway.openai.schema import encode
from kit.errors import Reason, TurnpikeError
from kit.json_schema import SchemaError, check_schema
from kit.regex import RegexError, compile_regex

SCHEMA_BYTES_MAX: Final = 65_536
GRAMMAR_CHARS_MAX: Final = 65_536
CHOICES_MAX: Final = 256
CHOICE_CHARS_MAX: Final = 1_024
STRUCTURES_MAX: Final = 64
HINT_CHARS_MAX: Final = 256
NAME_CHARS_MAX: Final = 64

CONSTRAINTS: Final = frozenset(
    {"response_format", "guided_json", "guided_regex", "guided_choice", "guided_grammar"}
    | {"structural_tag", "guided_decoding_backend", "guided_whitespace_pattern"}
)
"""The fields that are read here."""

_ORDER: Final = (
    "response_format",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "structural_tag",
)
_HINTS: Final = ("guided_decoding_backend", "guided_whitespace_pattern")
_NATIVE: Final = ("structured_outputs", "json_schema", "regex", "ebnf")
"""What engines call the same; carried along unread, but not beside a constraint."""

_TAG: Final = "structural_tag"
Fields = dict[str, msgspec.Raw]


def read_constraints(fields: Fields) -> tuple[str, ...]:
    """Check what a request asks of the answer's form and return the features that it needs.

    `fields` is put in order: an absent value that was written as null goes, and JSON that came as
    a string becomes JSON.

    Raises:
        TurnpikeError: `INVALID_VALUE` or `MISSING_FIELD`, with `param` naming the field.
    """
    for name in CONSTRAINTS.intersection(fields):
        if bytes(fields[name]) == b"null":
            del fields[name]
    found = ((name, _READERS[name](name, fields)) for name in _ORDER if name in fields)
    constraining = [(name, features) for name, features in found if features]
    names: list[str] = [name for name, _ in constraining]
    for name in _HINTS:
        if name in fields:
            _check_hint(name, fields)
    if not names:
        return ()
    names += [name for name in _NATIVE if name in fields]
    if len(names) > 1:
        raise _wrong(names[1], f"{names[0]} and {names[1]} both constrain the answer; give one.")
    return constraining[0][1]


def _wrong(param: str, message: str) -> TurnpikeError:
    return TurnpikeError(Reason.INVALID_VALUE, message, param=param)


def _decoded(name: str, raw: bytes | str) -> Any:  # noqa: ANN401 - anything JSON
    if len(raw) > SCHEMA_BYTES_MAX:
        raise _wrong(name, f"{name} has {len(raw)} bytes; {SCHEMA_BYTES_MAX} are served.")
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError) as error:
        raise _wrong(name, f"{name} is not JSON that can be read.") from error


def _object(name: str, fields: Fields) -> dict[str, Any]:
    """Return a field that is an object or a string with one, and keep it as an object."""
    value = _decoded(name, bytes(fields[name]))
    if isinstance(value, str):
        value = _decoded(name, value)
        fields[name] = msgspec.Raw(encode(value))
    return _checked_object(name, value)


def _checked_object(where: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(where, f"{where} must be an object.")
    return value


def _string(name: str, fields: Fields, chars_max: int) -> str:
    raw = bytes(fields[name])
    try:
        text = msgspec.json.decode(raw, type=str)
    except ValueError as error:
        raise _wrong(name, f"{name} must be a string.") from error
    if not 1 <= len(text) <= chars_max:
        raise _wrong(name, f"{name} has {len(text)} characters; it must be 1 to {chars_max}.")
    return text


def _check_schema(where: str, schema: object) -> None:
    try:
        check_schema(_checked_object(where, schema))
    except SchemaError as error:
        raise _wrong(where, f"{where} {error}.") from error


def _check_regex(name: str, pattern: str) -> None:
    try:
        compile_regex(pattern)
    except RegexError as error:
        raise _wrong(name, f"{name} {error}.") from error


def _read_format(name: str, fields: Fields) -> tuple[str, ...]:
    value = _checked_object(name, _decoded(name, bytes(fields[name])))
    kind = value.get("type")
    if kind == "text":
        return ()
    if kind == "json_schema":
        _check_json_schema(f"{name}.json_schema", value)
    elif kind == _TAG:
        _check_tag(name, value)
        return (name, _TAG)
    elif kind != "json_object":
        where = f"{name}.type"
        if kind is None:
            raise TurnpikeError(Reason.MISSING_FIELD, f"{where} is required.", param=where)
        raise _wrong(where, f"{where} must be text, json_object, json_schema or structural_tag.")
    return (name,)


def _check_json_schema(where: str, value: dict[str, Any]) -> None:
    part = value.get("json_schema")
    if part is None:
        raise TurnpikeError(Reason.MISSING_FIELD, f"{where} is required.", param=where)
    part = _checked_object(where, part)
    for member in ("name", "schema"):
        if part.get(member) is None:
            raise TurnpikeError(
                Reason.MISSING_FIELD, f"{where}.{member} is required.", param=f"{where}.{member}"
            )
    name = part["name"]
    if not isinstance(name, str) or not 1 <= len(name) <= NAME_CHARS_MAX:
        raise _wrong(f"{where}.name", f"{where}.name must be 1 to {NAME_CHARS_MAX} characters.")
    if not isinstance(part.get("strict"), bool | None):
        raise _wrong(f"{where}.strict", f"{where}.strict must be true or false.")
    _check_schema(f"{where}.schema", part["schema"])


def _check_tag(where: str, value: dict[str, Any]) -> None:
    """Check the outline of a structural tag, and the schemas in its older form."""
    if value.get("type", _TAG) != _TAG:
        raise _wrong(f"{where}.type", f"{where}.type must be {_TAG}.")
    if isinstance(value.get("format"), dict):
        return
    structures, triggers = value.get("structures"), value.get("triggers")
    if not isinstance(structures, list) or not isinstance(triggers, list):
        raise _wrong(where, f"{where} needs `format`, or `structures` and `triggers`.")
    if not 1 <= len(structures) <= STRUCTURES_MAX:
        raise _wrong(
            where, f"{where} has {len(structures)} structures; it must be 1 to {STRUCTURES_MAX}."
        )
    if not triggers or not all(isinstance(item, str) and item for item in triggers):
        raise _wrong(where, f"{where}.triggers must be strings that are not empty.")
    for index, item in enumerate(structures):
        at = f"{where}.structures[{index}]"
        part = _checked_object(at, item)
        if not isinstance(part.get("begin"), str) or not isinstance(part.get("end"), str):
            raise _wrong(at, f"{at} needs `begin` and `end`, both strings.")
        if part.get("schema") is not None:
            _check_schema(f"{at}.schema", part["schema"])


def _read_json(name: str, fields: Fields) -> tuple[str, ...]:
    _check_schema(name, _object(name, fields))
    return (name,)


def _read_regex(name: str, fields: Fields) -> tuple[str, ...]:
    _check_regex(name, _string(name, fields, SCHEMA_BYTES_MAX))
    return (name,)


def _read_choice(name: str, fields: Fields) -> tuple[str, ...]:
    value = _decoded(name, bytes(fields[name]))
    if not isinstance(value, list) or not 1 <= len(value) <= CHOICES_MAX:
        raise _wrong(name, f"{name} must be an array of 1 to {CHOICES_MAX} strings.")
    for index, item in enumerate(value):
        if not isinstance(item, str) or not 1 <= len(item) <= CHOICE_CHARS_MAX:
            where = f"{name}[{index}]"
            raise _wrong(where, f"{where} must be a string of 1 to {CHOICE_CHARS_MAX} characters.")
    return (name,)


def _read_grammar(name: str, fields: Fields) -> tuple[str, ...]:
    _string(name, fields, GRAMMAR_CHARS_MAX)
    return (name,)


def _read_tag(name: str, fields: Fields) -> tuple[str, ...]:
    value = _object(name, fields)
    _check_tag(name, value)
    if "type" not in value:
        fields[name] = msgspec.Raw(encode({"type": _TAG, **value}))
    return (name,)


def _check_hint(name: str, fields: Fields) -> None:
    text = _string(name, fields, HINT_CHARS_MAX)
    if name == "guided_whitespace_pattern":
        _check_regex(name, text)


_READERS: Final[dict[str, Callable[[str, Fields], tuple[str, ...]]]] = {
    "response_format": _read_format,
    "guided_json": _read_json,
    "guided_regex": _read_regex,
    "guided_choice": _read_choice,
    "guided_grammar": _read_grammar,
    _TAG: _read_tag,
}
