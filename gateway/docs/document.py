"""The OpenAPI document, from the structs that requests are read with; pure.

Source: OpenAPI 3.1.0, sections 4.8 and 4.8.24.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from gateway.docs.operations import OPERATIONS, Operation
from gateway.docs.places import BOUNDS, PLACES, TYPE_IS_OPTIONAL, TYPES, Form, Place, Struct
from gateway.openai.schema import ChatRequest

PREFIX: Final = "/v1"
JSON: Final = "application/json"
_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_REFERENCE: Final = "#/components/schemas/"
_LONG: Final = re.compile(r"gateway\.(\w+)\.[\w.]*?(\w+)")
_NULL: Final[Form] = {"type": "null"}
_INTEGER: Final[Form] = {"type": "integer"}
_NUMBER: Final[Form] = {"type": "number"}
_FILE: Final[Form] = {"type": "string", "format": "binary", "minLength": 1}


class _Schemas:
    """The schemas of structs, by the names that they have in the document."""

    def __init__(self, structs: set[Struct]) -> None:
        ordered = sorted(structs, key=lambda each: (each.__name__, each.__module__))
        references, found = msgspec.json.schema_components(
            ordered, ref_template=f"{_REFERENCE}{{name}}"
        )
        names = {name: _short(name) for name in found}
        self.components: dict[str, Form] = {
            names[name]: {**_told(form, names), "title": names[name]}
            for name, form in found.items()
        }
        self._names = {
            struct: _told(reference, names)["$ref"].removeprefix(_REFERENCE)
            for struct, reference in zip(ordered, references, strict=True)
        }

    def reference(self, struct: Struct) -> Form:
        """Return what stands for a struct elsewhere in the document."""
        return {"$ref": _REFERENCE + self._names[struct]}

    def of(self, struct: Struct) -> Form:
        """Return a struct's own schema, to be changed."""
        return self.components[self._names[struct]]

    def fill(self, struct: Struct, name: str, place: Place) -> None:
        """Say what may stand in a field that the struct leaves open."""
        form = self.of(struct)
        inner = [self.reference(each) for each in place.structs]
        options = list(place.others)
        if place.is_list and inner:
            options.append({"type": "array", "items": _any_of(inner)})
        else:
            options += inner
        if place.is_required:
            form["required"].append(name)
        if name not in form["required"]:
            options.append(_NULL)
        form["properties"][name] = _any_of(options)

    def type_as(self, struct: Struct, names: Sequence[str]) -> None:
        """Say what the `type` of a struct may be."""
        form = self.of(struct)
        form["properties"]["type"] = {"enum": list(names)}
        if struct not in TYPE_IS_OPTIONAL and "type" not in form["required"]:
            form["required"].append("type")

    def bound(self, struct: Struct, name: str, least: int, most: int | None) -> None:
        """Say from where to where a number goes."""
        options = self.of(struct)["properties"][name]["anyOf"]
        number = next(each for each in options if each != _NULL)
        number |= {"minimum": least} if most is None else {"minimum": least, "maximum": most}

    def complete(self, each: Operation) -> None:
        """Add the fields of an operation's request that its struct does not hold."""
        if each.request is None:
            return
        form, chat = self.of(each.request), self.of(ChatRequest)
        form["description"] = f"The body of `{each.method} {PREFIX}{each.path}`."
        for name in sorted(each.more_fields - form["properties"].keys()):
            form["properties"][name] = chat["properties"].get(name, {})
            if name in chat["required"]:
                form["required"].append(name)
        if each.file_field:
            form["properties"] = {each.file_field: _FILE, **form["properties"]}
            form["required"].append(each.file_field)


def document(version: str, operations: Sequence[Operation] = OPERATIONS) -> dict[str, Any]:
    """Return the whole document."""
    schemas = _schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        path = paths.setdefault(PREFIX + each.path, {})
        path[each.method.lower()] = _operation(each, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Turnpike",
            "version": version,
            "description": "One OpenAI-compatible endpoint in front of many models. Other path "
            "prefixes speak other dialects of the same API.",
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}, {"x-api-key": []}],
        "tags": [{"name": name} for name in dict.fromkeys(each.group for each in operations)],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _schemas(operations: Sequence[Operation]) -> _Schemas:
    structs: set[Struct] = {ChatRequest, *PLACES, *TYPES, *BOUNDS}
    for each in operations:
        structs |= {one for one in (each.request, each.answer, each.error) if one is not None}
    for places in PLACES.values():
        structs.update(*(place.structs for place in places.values()))
    schemas = _Schemas(structs)
    for struct, places in PLACES.items():
        for name, place in places.items():
            schemas.fill(struct, name, place)
    for struct, names in TYPES.items():
        schemas.type_as(struct, names)
    for struct, bounds in BOUNDS.items():
        for name, (least, most) in bounds.items():
            schemas.bound(struct, name, least, most)
    for each in operations:
        schemas.complete(each)
    return schemas


def _operation(each: Operation, schemas: _Schemas) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if each.answer is not None:
        content[JSON] = {"schema": schemas.reference(each.answer)}
    content |= {kind: {"schema": {"type": "string"}} for kind in each.other_types}
    error = {JSON: {"schema": schemas.reference(each.error)}}
    found: dict[str, Any] = {
        "operationId": each.name,
        "tags": [each.group],
        "summary": each.summary,
        "responses": {
            "200": {"description": "The answer.", "content": content},
            "default": {"description": "A refusal that says why.", "content": error},
        },
    }
    if each.request is not None:
        schema = {each.request_type: {"schema": schemas.reference(each.request)}}
        found["requestBody"] = {"required": True, "content": schema}
    if parameters := _parameters(each):
        found["parameters"] = parameters
    return found


def _parameters(each: Operation) -> list[dict[str, Any]]:
    text = {"schema": {"type": "string"}}
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, **text}
        for name in _PARAMETER.findall(each.path)
    ]
    for place, named in (("header", each.headers), ("query", each.query)):
        found += [
            {"name": name, "in": place, "description": description, **text}
            for name, description in named.items()
        ]
    return found


def _short(name: str) -> str:
    """Return the name of a component; what several modules have is told apart by the API's."""
    found = _LONG.fullmatch(name)
    return name if found is None else found[1].capitalize() + found[2]


def _told(value: Any, names: Mapping[str, str]) -> Any:  # noqa: ANN401 - JSON
    """Return a schema with the document's names; a whole number is one also with a fraction of 0.

    Source: JSON Schema Draft 2020-12, validation, section 6.1.1.
    """
    if isinstance(value, dict):
        return {key: _told(each, names) for key, each in value.items()}
    if isinstance(value, list):
        is_whole = _INTEGER in value
        return [_told(each, names) for each in value if not (is_whole and each == _NUMBER)]
    if isinstance(value, str) and value.startswith(_REFERENCE):
        return _REFERENCE + names[value.removeprefix(_REFERENCE)]
    return value


def _any_of(forms: Sequence[Form]) -> Form:
    return forms[0] if len(forms) == 1 else {"anyOf": list(forms)}
