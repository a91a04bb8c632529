"""Schemas of strangers: what is refused, what a text is held to, and that it takes no time."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.json_schema import (
    ALTERNATIVES_MAX,
    DEPTH_MAX,
    NODES_MAX,
    PATTERNS_MAX,
    SchemaError,
    check_schema,
    is_valid,
)

TREE = {"type": "object", "properties": {"child": {"$ref": "#"}, "n": {"type": "integer"}}}
NODE = "#/$defs/node"


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"not": schema}
    return schema


def chain(length: int, *, width: int = 1) -> dict[str, Any]:
    """A chain of references, each taken `width` times: width ** length evaluations."""
    steps: dict[str, Any] = {
        f"d{step}": {"anyOf": [{"$ref": f"#/$defs/d{step + 1}"}] * width} for step in range(length)
    }
    return {"$defs": {**steps, f"d{length}": {"type": "string"}}, "$ref": "#/$defs/d0"}


def twice(keyword: str, **more: Any) -> dict[str, Any]:
    """A recursive schema that goes into each child twice: 2 ** depth evaluations."""
    branch = {"type": "object", "properties": {"a": {"$ref": NODE}}}
    return {"$defs": {"node": {keyword: [branch, branch], **more}}, "$ref": NODE}


def deep(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


@pytest.mark.parametrize(
    "schema",
    [
        {},
        TREE,
        {"$ref": "#/$defs/a%20b~1c", "$defs": {"a b/c": {"type": "string"}}},
        {"$id": "https://example.com/schema", "$ref": "#/$defs/a", "$defs": {"a": {}}},
        {"properties": {"$ref": {"type": "string"}, "$id": {}, "$dynamicRef": {}}},
        {"const": {"$ref": "https://example.com"}, "default": {"$id": 5}},
        {"type": "string", "format": "no-such-format", "x-mine": 1},
        {"items": {"$ref": "#/prefixItems/0"}, "prefixItems": [{"type": "string"}]},
        nested(DEPTH_MAX - 1),
        {"allOf": [{"pattern": "a"} for _ in range(PATTERNS_MAX)]},
        twice("oneOf"),
    ],
)
def test_sound_schema_is_taken(schema: dict[str, Any]) -> None:
    check_schema(schema)


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "strin"}, "not a JSON Schema"),
        ({"properties": {"age": {"minimum": "5"}}}, "properties/age/minimum"),
        ({"properties": []}, "not a JSON Schema"),
        ({"pattern": "("}, "at pattern"),
        ({"pattern": "(?=a)b"}, "at pattern"),
        ({"pattern": "((a{100}){100}){100}"}, "at pattern"),
        ({"pattern": "a" * 5_000}, "pattern of more than"),
        ({"patternProperties": {"(": {}}}, "not a JSON Schema"),
        ({"patternProperties": {f"{n}": {} for n in range(33)}}, f"33 patterns; {PATTERNS_MAX}"),
        ({"$ref": "https://example.com/schema"}, "point into itself"),
        ({"$ref": "file:///etc/passwd"}, "point into itself"),
        ({"$ref": "other.json"}, "point into itself"),
        ({"$ref": "#anchor", "$anchor": "anchor"}, "point into itself"),
        ({"properties": {"a": {"items": {"$ref": "//x"}}}}, "point into itself"),
        ({"$ref": 5}, "point into itself"),
        ({"$ref": "#/$defs/none"}, "points to nothing"),
        ({"$dynamicRef": "#a", "$dynamicAnchor": "a"}, "dynamic"),
        ({"$defs": {"a": {"$id": "https://example.com/a"}}}, "below its root"),
        ({"$ref": "#"}, "refers to itself"),
        ({"anyOf": [{"not": {"$ref": "#"}}]}, "refers to itself"),
        ({"$ref": "#/x/y", "x": {"y": {"$ref": "https://example.com"}}}, "point into itself"),
        (nested(DEPTH_MAX), "levels deep"),
        (nested(20_000), "levels deep"),
        ({"items": [[]] * 10}, "not a JSON Schema"),
        ({"enum": [[]] * NODES_MAX}, "objects and arrays"),
        (chain(DEPTH_MAX), f"more than {DEPTH_MAX} references"),
        (chain(14, width=2), f"more than {ALTERNATIVES_MAX} alternatives"),
        (chain(30, width=9), "alternatives"),
        ({"const": float("nan"), "type": 1}, "not a JSON Schema"),
    ],
)
def test_schema_that_is_broken_or_a_bomb_is_refused(schema: dict[str, Any], why: str) -> None:
    with pytest.raises(SchemaError, match=why):
        check_schema(schema)


@pytest.mark.parametrize(
    ("schema", "text", "verdict"),
    [
        ({}, "5", True),
        ({}, " {} \n", True),
        ({}, "", False),
        ({}, "{} {}", False),
        ({}, "{'a': 1}", False),
        ({}, "NaN", False),
        ({}, "[Infinity]", False),
        ({}, "```json\n{}\n```", False),
        ({"type": "object"}, "[]", False),
        ({"required": ["a"]}, "{}", False),
        ({"enum": ["a", "b"]}, '"b"', True),
        ({"enum": ["a", "b"]}, '"c"', False),
        ({"format": "email"}, '"nobody"', True),
        ({"pattern": "^a+$"}, '"aab"', False),
        ({"propertyNames": {"maxLength": 1}}, '{"ab":1}', False),
        ({"patternProperties": {"^n": {"type": "integer"}}}, '{"n":"x"}', False),
        ({"contains": {"const": 1}, "prefixItems": [{"type": "string"}]}, '["a",1]', True),
        ({"unevaluatedProperties": False, "properties": {"a": {}}}, '{"b":1}', False),
        ({"dependentSchemas": {"a": {"required": ["b"]}}}, '{"a":1}', False),
        (TREE, '{"child":{"child":{"n":1}}}', True),
        (TREE, '{"child":{"child":{"n":"1"}}}', False),
        (twice("oneOf"), deep(3), False),
        (twice("anyOf"), '{"a":{"a":{}}}', True),
        # What Python cannot hold, or what would take too long, is left unjudged.
        ({"type": "number"}, "1e999", None),
        ({"type": "integer"}, "9" * 5_000, None),
        ({"type": "string"}, '"\\ud800"', None),
        ({}, "[" * 5_000 + "]" * 5_000, None),
        (twice("oneOf"), deep(60), None),
        (twice("anyOf", unevaluatedProperties=False), deep(60), None),
        ({"patternProperties": {"a": {"$ref": "#"}, "^a": {"$ref": "#"}}}, deep(60), None),
        (
            {"allOf": [{"pattern": f"(a|b)*a(a|b){{200}}{n}"} for n in range(30)]},
            json.dumps("ab" * 9_000),
            None,
        ),
    ],
)
def test_text_is_held_to_the_schema(
    schema: dict[str, Any], text: str, verdict: bool | None
) -> None:
    check_schema(schema)

    assert verdict is is_valid(schema, text)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)


def schema_of(value: Any) -> dict[str, Any]:
    """The narrowest usual schema of a value."""
    if isinstance(value, dict):
        members = {name: schema_of(item) for name, item in value.items()}
        closed = {"required": list(value), "additionalProperties": False}
        return {"type": "object", "properties": members, **closed}
    if isinstance(value, list):
        items = [schema_of(item) for item in value]
        some = {"prefixItems": items} if items else {}
        return {"type": "array", **some, "minItems": len(items), "maxItems": len(items)}
    return {"const": value}


@given(json_values)
def test_every_value_fits_its_own_schema_and_nothing_else(value: Any) -> None:
    schema, text = schema_of(value), json.dumps(value)
    check_schema(schema)

    assert is_valid(schema, text)
    assert not is_valid(schema, json.dumps([value]))
    assert not is_valid(schema, text + "]")


keyword_values = st.one_of(
    json_values, st.just({"$ref": "#"}), st.lists(st.just({"$ref": "#/$defs/a"}), max_size=3)
)
KEYWORDS = ("$ref", "$defs", "$id", "allOf", "anyOf", "not", "if", "properties", "items", "enum")
MORE = ("prefixItems", "pattern", "patternProperties", "required", "type", "contains", "const")


@given(st.dictionaries(st.sampled_from(KEYWORDS + MORE), keyword_values), json_values)
def test_whatever_is_sent_as_a_schema_is_checked_or_refused(
    schema: dict[str, Any], value: Any
) -> None:
    try:
        check_schema(schema)
    except SchemaError:
        return

    assert is_valid(schema, json.dumps(value)) in (True, False, None)
