"""Writes `docs/catalogue.md` from its entries: `python -m tests.house.catalogue_page`."""

import inspect
import json
import typing
from typing import Any, Literal

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from services.router.catalog_entries import CatalogueFile, ModelEntry
from services.router.provider_entries import ProviderEntry, TritonEntry
from tests.house.tree import ROOT

PAGE = ROOT / "docs" / "catalogue.md"
_HEAD = """\
# The catalogue: providers, models, prices, functions

Written from `services/router/*entries.py`; do not edit. It stands under `catalogue` in
`turnpike.yaml` and is taken up while it runs; unknown names are refused. `docs/routing.md` says
which deployment serves a request, `docs/media.md` how images and sound are sold.
"""
_WORDS = {str: "text", int: "whole number", bool: "yes or no", SecretStr: "secret"}


def page() -> str:
    """Return the page."""
    parts = [_HEAD]
    for entry in _providers():
        kinds = " or ".join(f"`{kind}`" for kind in _kinds(entry))
        parts.append(f"## Provider {kinds}\n\n{_said(entry)}\n\n{_table(entry, skip={'kind'})}")
    for title, model in _others().items():
        parts.append(f"## {title}\n\n{_said(model)}\n\n{_table(model)}")
    return "\n".join(parts)


def _providers() -> list[type[BaseModel]]:
    union = typing.get_args(ProviderEntry)[0]
    return list(typing.get_args(union))


def _kinds(entry: type[BaseModel]) -> tuple[str, ...]:
    return typing.get_args(entry.model_fields["kind"].annotation)


def _others() -> dict[str, type[BaseModel]]:
    """Return what models are made of, each once, in the order in which one meets it."""
    found: dict[str, type[BaseModel]] = {}
    waiting: list[tuple[str, type[BaseModel]]] = [
        ("Model", ModelEntry),
        ("Function", _inner(CatalogueFile, "functions")),
        ("`servers` of provider `triton`", _inner(TritonEntry, "servers")),
    ]
    while waiting:
        title, model = waiting.pop(0)
        found[title] = model
        for name, field in model.model_fields.items():
            inner = _model_in(field.annotation)
            if inner is not None and inner not in found.values():
                waiting.append((f"`{name}` of {title.lower()}", inner))
    return found


def _inner(model: type[BaseModel], name: str) -> type[BaseModel]:
    inner = _model_in(model.model_fields[name].annotation)
    assert inner is not None
    return inner


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    found = [_model_in(each) for each in typing.get_args(annotation)]
    return next((each for each in found if each is not None), None)


def _said(model: type[BaseModel]) -> str:
    return inspect.cleandoc(model.__doc__ or "")


def _table(model: type[BaseModel], skip: frozenset[str] | set[str] = frozenset()) -> str:
    rows = ["| | | absent means | |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if name not in skip:
            said = (field.description or "").replace("|", "\\|")
            rows.append(f"| `{name}` | {_kind(field.annotation)} | {_default(field)} | {said} |")
    return "\n".join(rows) + "\n"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "has to be there"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is PydanticUndefined or value is None or value in ("", [], {}, ()):
        return ""
    if isinstance(value, tuple):
        value = list(value)
    return f"`{value if isinstance(value, str) else json.dumps(value, default=str)}`"


def _kind(annotation: Any) -> str:
    if _model_in(annotation) is not None:
        return "see below"
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{each}`" for each in inner if each)
    if origin in (list, tuple):
        return f"list of {_kind(inner[0])}"
    if origin is dict:
        return "names and values"
    if inner:
        return _kind(next(each for each in inner if each is not type(None)))
    return _WORDS.get(annotation, "number")


if __name__ == "__main__":
    PAGE.write_text(page())
