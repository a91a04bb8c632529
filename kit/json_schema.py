"""JSON Schemas of strangers (Draft 2020-12): checked, and applied within bounds; pure.

References may point into the schema itself and nowhere else; nothing is fetched, and `format` is
an annotation. The engine is compiled code that cannot be interrupted, so what a schema could make
it do is worked out first: a text that could cost too much is left unjudged.

Source: JSON Schema Draft 2020-12, core and validation vocabularies (read 2026-11).
"""

import json
import math
from collections.abc import Iterator
from typing import Any, Final

from kit.regex import PATTERN_CHARS_MAX

DEPTH_MAX: Final = 64
"""Deepest nesting of a schema, and longest chain of references at one place."""

NODES_MAX: Final = 5_000
"""Most objects and arrays in a schema."""

PATTERNS_MAX: Final = 32
ALTERNATIVES_MAX: Final = 10_000
"""Most subschemas that may be applied at one place."""

WORK_MAX: Final = 2_000_000
"""Most subschemas that may be applied to a text, about 20 ms."""

_PATTERN_WORK: Final = 16
"""What matching one character against a pattern counts as."""

_PATTERN_BYTES_MAX: Final = 262_144
_ONE: Final = frozenset(
    {"additionalProperties", "contains", "contentSchema", "else", "if", "items", "not"}
    | {"propertyNames", "then", "unevaluatedItems", "unevaluatedProperties"}
)
_MANY: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_NAMED: Final = frozenset(
    {"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"}
)
_CHILDREN: Final = frozenset({"additionalProperties", "items", "prefixItems", "properties"})
_COSTLY: Final = frozenset(
    {"contains", "pattern", "patternProperties", "propertyNames", "enum"}
    | {"unevaluatedItems", "unevaluatedProperties"}
)
_SAME_PLACE: Final = frozenset({"allOf", "anyOf", "oneOf", "not", "if", "then", "else"})
Schema = dict[str, Any]


class SchemaError(ValueError):
    """A schema that is not served; its text is the rest of a sentence about it."""


class _TooMuch(Exception):  # noqa: N818 - a way out, not a failure
    """Applying the schema could take too long."""


def check_schema(schema: Schema) -> None:
    """Return if a schema is sound and within bounds.

    Raises:
        SchemaError: It is not.
    """
    _check_size(schema)
    pattern_count = 0
    for node in _nodes(schema):
        if "$dynamicRef" in node or "$recursiveRef" in node:
            raise SchemaError("uses dynamic references, which are not served")
        if "$id" in node and node is not schema:
            raise SchemaError("has an $id below its root, which is not served")
        if "$ref" in node:
            _target(schema, node["$ref"])
        pattern_count += "pattern" in node
        properties = node.get("patternProperties")
        pattern_count += len(properties) if isinstance(properties, dict) else 0
        if isinstance(pattern := node.get("pattern"), str) and len(pattern) > PATTERN_CHARS_MAX:
            raise SchemaError(f"has a pattern of more than {PATTERN_CHARS_MAX} characters")
    if pattern_count > PATTERNS_MAX:
        raise SchemaError(f"has {pattern_count} patterns; {PATTERNS_MAX} are served")
    _check_alternatives(schema)
    _compiled(schema)


def is_valid(schema: Schema, text: str) -> bool | None:
    """Return whether a text is JSON and fits a checked schema; None when that cannot be judged."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except json.JSONDecodeError:
        return False
    except (ValueError, RecursionError):
        return None
    validator = _compiled(schema)
    try:
        if not _is_narrow(schema):
            _Work(schema).add(schema, value)
        return bool(validator.is_valid(value))
    except (_TooMuch, ValueError, RecursionError):
        return None


def _refuse_constant(_name: str) -> Any:  # noqa: ANN401 - never returns
    raise json.JSONDecodeError("NaN and Infinity are no JSON", "", 0)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number that is JSON, but too large to compare")
    return number


def _compiled(schema: Schema) -> Any:  # noqa: ANN401 - the library's validator, loaded when used
    # Loaded on first use: it takes 8 MiB, and few requests have a schema.
    import jsonschema_rs  # noqa: PLC0415

    try:
        return jsonschema_rs.Draft202012Validator(
            schema,
            validate_formats=False,
            offline=True,
            pattern_options=jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES_MAX),
        )
    except jsonschema_rs.ValidationError as error:
        where = "/".join(str(step) for step in error.instance_path)[:200]
        at = f" at {where}" if where else ""
        raise SchemaError(f"is not a JSON Schema (Draft 2020-12){at}") from error
    except (jsonschema_rs.ReferencingError, ValueError) as error:
        raise SchemaError("is not a JSON Schema (Draft 2020-12)") from error


def _check_size(schema: Schema) -> None:
    level: list[Any] = [schema]
    node_count = 0
    for _ in range(DEPTH_MAX):
        node_count += len(level)
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            break
    else:
        raise SchemaError(f"is nested more than {DEPTH_MAX} levels deep")
    if node_count > NODES_MAX:
        raise SchemaError(f"has {node_count} objects and arrays; {NODES_MAX} are served")


def _subschemas(node: Schema, keywords: frozenset[str] | None = None) -> Iterator[Schema]:
    """Yield the schemas directly in a schema, of these keywords or of all."""
    for keyword, value in node.items():
        if keywords is not None and keyword not in keywords:
            continue
        if keyword in _ONE:
            found: Any = (value,)
        elif keyword in _MANY and isinstance(value, list):
            found = value
        elif keyword in _NAMED and isinstance(value, dict):
            found = value.values()
        else:
            continue
        for item in found:
            if isinstance(item, dict):
                yield item


def _nodes(root: Schema) -> Iterator[Schema]:
    """Yield each schema in a schema once, and what references lead to."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        waiting.extend(_subschemas(node))
        if isinstance(target := node.get("$ref"), str):
            found = _target(root, target)
            if isinstance(found, dict):
                waiting.append(found)


def _target(root: Schema, reference: object) -> Any:  # noqa: ANN401 - anything JSON
    """Return what a reference points to.

    Raises:
        SchemaError: It does not point into the schema.
    """
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        raise SchemaError("has a $ref that does not point into itself (`#/...`)")
    found: Any = root
    for step in reference.split("/")[1:]:
        name = _unescaped(step)
        if isinstance(found, dict) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isdigit() and int(name) < len(found):
            found = found[int(name)]
        else:
            raise SchemaError("has a $ref that points to nothing in it")
    return found


def _unescaped(step: str) -> str:
    from urllib.parse import unquote  # noqa: PLC0415 - for schemas only

    return unquote(step).replace("~1", "/").replace("~0", "~")


def _same_place(root: Schema, node: Schema) -> Iterator[Schema]:
    """Yield the schemas that a schema applies to the same value as itself."""
    yield from _subschemas(node, _SAME_PLACE)
    dependent = node.get("dependentSchemas")
    if isinstance(dependent, dict):
        yield from (item for item in dependent.values() if isinstance(item, dict))
    if "$ref" in node and isinstance(found := _target(root, node["$ref"]), dict):
        yield found


def _check_alternatives(root: Schema) -> None:
    counts: dict[int, int] = {}
    open_ids: set[int] = set()

    def count(node: Schema) -> int:
        known = counts.get(id(node))
        if known is not None:
            return known
        if id(node) in open_ids:
            raise SchemaError("refers to itself without going deeper into the value")
        if len(open_ids) >= DEPTH_MAX:
            raise SchemaError(f"has a chain of more than {DEPTH_MAX} references")
        open_ids.add(id(node))
        total = 1 + sum(count(item) for item in _same_place(root, node))
        open_ids.discard(id(node))
        if total > ALTERNATIVES_MAX:
            raise SchemaError(f"combines more than {ALTERNATIVES_MAX} alternatives at one place")
        counts[id(node)] = total
        return total

    for node in _nodes(root):
        count(node)


def _is_narrow(root: Schema) -> bool:
    """Return whether no value is gone into twice, so that the cost grows with the text alone."""
    widths: dict[int, int] = {}

    def width(node: Schema) -> int:
        if (known := widths.get(id(node))) is None:
            known = int(not _CHILDREN.isdisjoint(node))
            known += sum(width(item) for item in _same_place(root, node))
            widths[id(node)] = known
        return known

    return all(_COSTLY.isdisjoint(node) and width(node) <= 1 for node in _nodes(root))


class _Work:
    """Counts what applying a schema could cost when no branch is ever cut short."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._known: dict[tuple[int, int], int] = {}
        self._steps = 0

    def add(self, node: object, value: object) -> int:
        """Return the cost of a schema on a value.

        Raises:
            _TooMuch: It is more than `WORK_MAX`.
        """
        if not isinstance(node, dict):
            return 1
        key = (id(node), id(value))
        known = self._known.get(key)
        if known is not None:
            return known
        self._steps += 1
        total = 1 + len(node.get("enum", ())) + len(node.get("required", ()))
        total += sum(self.add(item, value) for item in _same_place(self._root, node))
        if isinstance(value, dict):
            total += sum(self._property(node, name, item) for name, item in value.items())
        elif isinstance(value, list):
            total += sum(self._item(node, at, item) for at, item in enumerate(value))
        elif isinstance(value, str) and "pattern" in node:
            total += _PATTERN_WORK * len(value)
        if "unevaluatedProperties" in node or "unevaluatedItems" in node:
            # The branches are gone through once more to find out what they did not look at.
            total *= 2
        if total > WORK_MAX or self._steps > WORK_MAX // 20:
            raise _TooMuch
        self._known[key] = total
        return total

    def _property(self, node: Schema, name: str, item: object) -> int:
        total = 1
        if name in node.get("properties", {}):
            total += self.add(node["properties"][name], item)
        for pattern_node in node.get("patternProperties", {}).values():
            total += _PATTERN_WORK * len(name) + self.add(pattern_node, item)
        for keyword in ("additionalProperties", "unevaluatedProperties"):
            if keyword in node:
                total += self.add(node[keyword], item)
        if "propertyNames" in node:
            total += self.add(node["propertyNames"], name)
        return total

    def _item(self, node: Schema, at: int, item: object) -> int:
        total = 1
        prefix = node.get("prefixItems", ())
        if at < len(prefix):
            total += self.add(prefix[at], item)
        for keyword in ("items", "contains", "unevaluatedItems"):
            if keyword in node:
                total += self.add(node[keyword], item)
        return total
