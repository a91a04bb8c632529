"""Fuzz targets: JSON Schemas and regular expressions of strangers, and texts held against them."""

import contextlib
import json
from typing import Any, Final

from kit.json_schema import SchemaError, check_schema, is_valid
from kit.regex import RegexError, compile_regex, is_full_match
from services.router.constraints import TEXT_CHARS_MAX
from tests.fuzz.writing import Writer, source_of

_ATOMS: Final = [
    *("a", "b", ".", "é", "ß", "0", "-", "]", "^", "{", "}", ",", "\\", "$", "#", "\n", "/"),
    *(r"\w", r"\d", r"\s", r"\W", r"\b", r"\pL", r"\p{Nd}", r"\x41", r"\u0041", r"\Q", r"\E"),
    *("[", "[^", "[]", "[^]", "[a-", "[[:alpha:]]", "&&", "(?i)", "(?:", "(?P<x>", "(", ")", "|"),
    *("*", "+", "?", "{2}", "{1,3}", "{0,}", "*?", "{1000}", "(?=", r"\1", "(?<=", "(?s)", "(?#"),
]
_LETTERS: Final = ["a", "b", "é", "0", "٣", "-", " ", "\n", "\u00a0", "]", "A", "\U0001f600", "_"]


def regex(data: bytes) -> None:
    """A pattern is refused before an answer or judges any text, in the same way each time."""
    source = source_of(data)
    writer = Writer(source, {})
    count = source.ConsumeIntInRange(0, 24)
    pattern = "".join(writer.pick(_ATOMS) for _ in range(count))
    if source.ConsumeIntInRange(0, 3) == 3:
        pattern += source.ConsumeUnicode(16)
    text = "".join(writer.pick(_LETTERS) for _ in range(source.ConsumeIntInRange(0, 24)))
    text *= writer.pick([1, 1, 64, 1024])
    try:
        narrow = compile_regex(pattern, is_dot_all=True)
    except RegexError:
        return
    # Wider classes may make a pattern too large; then nobody judges.
    with contextlib.suppress(RegexError):
        is_match = is_full_match(pattern, text)
        assert is_match or not narrow.fullmatch(text)
        assert is_match == is_full_match(pattern, text)


_KEYS: Final = ["a", "b", "c"]
_TYPES: Final = ["string", "integer", "number", "boolean", "null", "array", "object"]
_LEAVES: Final[list[Any]] = [
    True,
    False,
    {},
    {"type": "object"},
    {"type": ["string", "null"]},
    {"enum": ["a", 1, None]},
    {"const": {"a": [1]}},
    {"pattern": "^(a+)+$"},
    {"pattern": "(?=a)"},
    {"minLength": 1, "maxLength": 2},
    {"multipleOf": 0.1},
    {"minimum": -1e308, "maximum": 1e308},
    {"required": ["a", "b"]},
    {"uniqueItems": True},
    {"$ref": "#"},
    {"$ref": "#/$defs/a"},
    {"$ref": "#/properties/a"},
    {"$ref": "https://example.com/x"},
    {"$dynamicRef": "#a"},
    {"$id": "x"},
    {"type": 7},
    {"pattern": 7},
    {"required": "a"},
    {"dependentRequired": {"a": ["b"]}},
]
_ONE: Final = ["not", "items", "additionalProperties", "contains", "propertyNames", "if", "then"]
_MANY: Final = ["allOf", "anyOf", "oneOf", "prefixItems"]
_NAMED: Final = ["properties", "patternProperties", "$defs", "dependentSchemas"]
_MORE: Final = ["else", "unevaluatedItems", "unevaluatedProperties"]
_NUMBERS: Final = [0, 1, -1, 1.5, 1e308, 2**64, 10**400, True, None]


def schema(data: bytes) -> None:
    """A schema is refused before an answer or judges any text, within a second."""
    source = source_of(data)
    writer = Writer(source, {})
    found = _schema(source, writer, 0)
    if not isinstance(found, dict):
        return
    # As it comes from a body; the same object twice is what only Python can say.
    found = json.loads(json.dumps(found))
    try:
        check_schema(found)
    except SchemaError:
        return
    value = _value(source, writer, 0)
    for text in (json.dumps(value), source.ConsumeUnicodeNoSurrogates(32), "[" * 3000):
        if len(text) <= TEXT_CHARS_MAX:
            assert is_valid(found, text) in (True, False, None)


def _schema(source: Any, writer: Writer, depth: int) -> Any:
    if depth > 5 or not source.remaining_bytes():
        return writer.pick(_LEAVES)
    node = dict(leaf) if isinstance(leaf := writer.pick(_LEAVES), dict) else {}
    for _ in range(source.ConsumeIntInRange(0, 3)):
        keyword = writer.pick([*_ONE, *_MANY, *_NAMED, *_MORE, "type"])
        if keyword in _MANY:
            count = source.ConsumeIntInRange(1, 4)
            node[keyword] = [_schema(source, writer, depth + 1) for _ in range(count)]
        elif keyword in _NAMED:
            names = [writer.pick(_KEYS) for _ in range(source.ConsumeIntInRange(1, 3))]
            node[keyword] = {name: _schema(source, writer, depth + 1) for name in names}
        elif keyword == "type":
            node[keyword] = writer.pick(_TYPES)
        else:
            node[keyword] = _schema(source, writer, depth + 1)
    return node


def _value(source: Any, writer: Writer, depth: int) -> Any:
    kind = source.ConsumeIntInRange(0, 4) if depth < 5 else 0
    if kind in (1, 2):
        names = [writer.pick(_KEYS) for _ in range(source.ConsumeIntInRange(0, 3))]
        return {name: _value(source, writer, depth + 1) for name in names}
    if kind == 3:
        items = [_value(source, writer, depth + 1) for _ in range(source.ConsumeIntInRange(0, 4))]
        return items * writer.pick([1, 1, 1, 8])
    return "a" * 30 + "b" if kind == 4 else writer.pick(_NUMBERS)
