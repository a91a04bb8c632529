"""The OpenAPI document, from the structs that requests are read with; pure.

Source: OpenAPI 3.1.0, sections 4.8 and 4.8.24.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from gateway.docs.answers import ErrorAnswer
from gateway.docs.operations import EVENTS, OPERATIONS, Operation

PREFIX: Final = "/v1"
_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_REFERENCE: Final = "#/components/schemas/{name}"


def document(version: str, operations: Sequence[Operation] = OPERATIONS) -> dict[str, Any]:
    """Return the whole document."""
    types: set[type[msgspec.Struct]] = {ErrorAnswer}
    types |= {each.request for each in operations if each.request is not None}
    types |= {each.answer for each in operations if each.answer is not None}
    ordered = sorted(types, key=lambda each: each.__name__)
    references, components = msgspec.json.schema_components(ordered, ref_template=_REFERENCE)
    known = dict(zip(ordered, references, strict=True))
    for each in operations:
        if each.request is not None:
            properties = components[each.request.__name__]["properties"]
            properties |= {name: {} for name in sorted(each.raw_fields) if name not in properties}
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        path = paths.setdefault(PREFIX + each.path, {})
        path[each.method.lower()] = _operation(each, known)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Turnpike",
            "version": version,
            "description": "One OpenAI-compatible endpoint in front of many models. Other path "
            "prefixes speak other dialects of the same API.",
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(each: Operation, known: dict[type[msgspec.Struct], dict[str, Any]]) -> Any:  # noqa: ANN401 - JSON
    content: dict[str, Any] = {}
    content[each.answer_type] = {"schema": known[each.answer]} if each.answer else {}
    if each.is_streamable:
        content[EVENTS] = {"schema": {"type": "string"}}
    error = {"application/json": {"schema": known[ErrorAnswer]}}
    found: dict[str, Any] = {
        "operationId": each.name,
        "summary": each.summary,
        "responses": {
            "200": {"description": "The answer.", "content": content},
            "default": {"description": "A refusal that says why.", "content": error},
        },
    }
    if each.request is not None:
        schema = {each.request_type: {"schema": known[each.request]}}
        found["requestBody"] = {"required": True, "content": schema}
    if names := _PARAMETER.findall(each.path):
        found["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in names
        ]
    return found
