"""Writes JSON out of a fuzzer's bytes: what a schema allows, and now and then something else."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import atheris

from kit.errors import Reason, TurnpikeError

DEPTH_MAX: Final = 8
ODD: Final = [
    *(b"null true false 0 1 -1 2 1.0 0.5 1e999 -0 9223372036854775808".split()),
    *(b'"" "x" "auto" [] {} ["a"] [[]] [{}] {"a":[1]} {"type":"text"}'.split()),
    b"9" * 5000,
    b'"\\ud83d\\ude00"',
    b'"\\u0000"',
    b'"\\ud800"',
    b'"\xff"',
    b"[" * 900 + b"]" * 900,
    b'{"not":' * 500 + b"{}" + b"}" * 500,
]
"""What is written in place of anything."""

TEXTS: Final = [
    "x",
    "user",
    "assistant",
    "tool",
    "call_1",
    "get_weather",
    "auto",
    "https://example.com/a.png",
    "data:image/png;base64,iVBORw0KGgo=",
    "data:application/pdf;base64,JVBERi0x",
    "0199c82c-c400-7000-8000-000000000001",
    '{"a":1}',
    "1024x1024",
    "a" * 64,
    "a" * 257,
    "é\u2028\U0001f600",
]
_ODDS: Final = 24
_FIELDS_MAX: Final = 5
_ITEMS_MAX: Final = 3


class Writer:
    """Draws from `source`; `schemas` are the components of the API's description."""

    def __init__(self, source: Any, schemas: Mapping[str, Any]) -> None:
        self._source: Any = source
        self._schemas = schemas

    def write(self, name: str) -> bytes:
        """Return an object of a component."""
        return self._object(self._schemas[name], 0)

    def pick(self, values: Sequence[Any]) -> Any:
        """Return one of some values; the first when there are no bytes any more."""
        return values[self._source.ConsumeIntInRange(0, len(values) - 1)]

    def _value(self, form: Mapping[str, Any], depth: int) -> bytes:
        if self._source.ConsumeIntInRange(0, _ODDS) == _ODDS:
            return bytes(self.pick(ODD))
        if "$ref" in form:
            return self._object(self._schemas[form["$ref"].rsplit("/", 1)[1]], depth + 1)
        if "anyOf" in form:
            return self._value(self.pick(form["anyOf"]), depth)
        if "enum" in form:
            return json.dumps(self.pick(form["enum"])).encode()
        if form.get("type") == "object":
            return self._object(form, depth + 1)
        return self._plain(form, depth)

    def _plain(self, form: Mapping[str, Any], depth: int) -> bytes:
        kind = form.get("type")
        if kind == "array":
            return self._array(form.get("items", {}), depth + 1)
        if kind == "string":
            return json.dumps(self._text()).encode()
        if kind == "boolean":
            return b"true" if self._source.ConsumeBool() else b"false"
        if kind in ("integer", "number"):
            edges = [form.get("minimum", 1), form.get("maximum", 2), 1, 2, 1.5, 64.0, 2**31]
            return json.dumps(self.pick(edges)).encode()
        return b"null" if kind == "null" else bytes(self.pick(ODD))

    def _text(self) -> str:
        if self._source.ConsumeIntInRange(0, 3):
            return str(self._source.ConsumeUnicodeNoSurrogates(24))
        return str(self.pick(TEXTS))

    def _array(self, items: Mapping[str, Any], depth: int) -> bytes:
        if depth > DEPTH_MAX:
            return b"[]"
        count = 1 + self._source.ConsumeIntInRange(-1, _ITEMS_MAX - 1)
        return b"[%b]" % b",".join(self._value(items, depth) for _ in range(count))

    def _object(self, form: Mapping[str, Any], depth: int) -> bytes:
        properties: Mapping[str, Any] = form.get("properties", {})
        names = list(form.get("required", ())) if depth <= DEPTH_MAX else []
        if properties and depth <= DEPTH_MAX and self._source.remaining_bytes():
            others = list(properties)
            count = self._source.ConsumeIntInRange(0, _FIELDS_MAX)
            names += [self.pick(others) for _ in range(count)]
        pairs = [
            b"%b:%b" % (json.dumps(name).encode(), self._value(properties.get(name, {}), depth))
            for name in names
        ]
        return b"{%b}" % b",".join(pairs)


def source_of(data: bytes) -> Any:
    """Return what draws from a fuzzer's bytes."""
    return atheris.FuzzedDataProvider(data)


@contextmanager
def failing(reason: Reason) -> Iterator[None]:
    """Let nothing pass but a failure for this reason."""
    try:
        yield
    except TurnpikeError as error:
        if error.reason is not reason:
            raise
