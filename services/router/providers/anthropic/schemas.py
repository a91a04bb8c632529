"""JSON Schemas in the two places that the Messages API has for them; pure.

Source: Anthropic's page on structured outputs, and what `transform_schema` of
anthropic-sdk-python 2.14 leaves in a schema (read 2026-11).
"""

from typing import Any, Final

import msgspec

_COMBINED: Final = ("$ref", "allOf", "anyOf", "oneOf", "enum", "const", "not", "if")
_ANNOTATIONS: Final = frozenset({"$schema", "$defs", "description", "title", "default"})
_BY_TYPE: Final = {
    "object": frozenset({"properties", "required", "additionalProperties"}),
    "array": frozenset({"items", "minItems"}),
    "string": frozenset({"enum", "const", "format"}),
    "integer": frozenset({"enum", "const"}),
    "number": frozenset({"enum", "const"}),
    "boolean": frozenset({"enum", "const"}),
    "null": frozenset({"enum", "const"}),
}
_WITHOUT_TYPE: Final = frozenset({"$ref", "allOf", "anyOf", "enum", "const"})
_FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)
_SCALARS: Final = (str, int, float, bool, type(None))


def object_schema(raw: msgspec.Raw) -> msgspec.Raw | None:
    """Return a schema as one of a tool's input, which is an object; None if it cannot be one.

    A schema that does not name its type is narrowed to objects.
    """
    schema = msgspec.json.decode(raw)
    if not isinstance(schema, dict) or any(name in schema for name in _COMBINED):
        return None
    kind = schema.get("type", "object")
    if kind != "object":
        return None
    return raw if "type" in schema else msgspec.Raw(msgspec.json.encode({**schema, "type": kind}))


def is_strict(raw: msgspec.Raw) -> bool:
    """Return whether an answer can be held to a schema: it says nothing but what is kept to."""
    schema = msgspec.json.decode(raw)
    if not isinstance(schema, dict):
        return False
    definitions = schema.get("$defs", {})
    parts = [schema, *definitions.values()] if isinstance(definitions, dict) else []
    # What points into itself is taken by no grammar.
    return bool(parts) and not _is_recursive(definitions) and all(map(_is_kept, parts))


def _is_kept(schema: Any) -> bool:  # noqa: ANN401 - a stranger's JSON
    """Whether a schema and those in it are kept to."""
    if not isinstance(schema, dict):
        return False
    names = schema.keys() - _ANNOTATIONS
    kind = schema.get("type")
    allowed = _WITHOUT_TYPE if kind is None else _BY_TYPE.get(str(kind), frozenset()) | {"type"}
    if not names or names - allowed or not _has_kept_values(schema):
        return False
    if kind == "object" and schema.get("additionalProperties") is not False:
        return False
    inner = [*_listed(schema, "anyOf"), *_listed(schema, "allOf")]
    if "items" in schema:
        inner.append(schema["items"])
    if isinstance(properties := schema.get("properties"), dict):
        inner += properties.values()
    return all(map(_is_kept, inner))


def _has_kept_values(schema: dict[str, Any]) -> bool:
    return (
        isinstance(schema.get("type", ""), str)
        and schema.get("minItems", 0) in (0, 1)
        and schema.get("format", "date") in _FORMATS
        and all(isinstance(value, _SCALARS) for value in _listed(schema, "enum"))
        and isinstance(schema.get("const"), _SCALARS)
        and str(schema.get("$ref", "#/$defs/")).startswith("#/$defs/")
    )


def _listed(schema: dict[str, Any], name: str) -> list[Any]:
    value = schema.get(name, [])
    return value if isinstance(value, list) else [None]


def _is_recursive(definitions: dict[str, Any]) -> bool:
    """Whether a definition can be reached from itself."""
    reached = {name: _named(value) for name, value in definitions.items()}
    for name, names in reached.items():
        seen: set[str] = set()
        waiting = set(names)
        while waiting:
            each = waiting.pop()
            if each == name:
                return True
            if each not in seen:
                seen.add(each)
                waiting |= reached.get(each, set())
    return False


def _named(value: Any) -> set[str]:  # noqa: ANN401 - a stranger's JSON
    """Return the definitions that a piece of a schema points at."""
    found: set[str] = set()
    if isinstance(value, dict):
        if isinstance(ref := value.get("$ref"), str):
            found.add(ref.removeprefix("#/$defs/"))
        for inner in value.values():
            found |= _named(inner)
    elif isinstance(value, list):
        for inner in value:
            found |= _named(inner)
    return found
