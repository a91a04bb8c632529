"""A whole site over one provider: a model for each cell, so that no cell's failures close another.

Whoever fails often is left alone for a while, and that is judged by deployment.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from services.router.catalog_entries import CatalogueFile
from tests.fixtures.catalogues import PRICE
from tests.fixtures.gateway import Site
from tests.fixtures.media import BY_CHARACTER, BY_IMAGE, BY_SECOND
from tests.matrix.cells import CELLS, OPERATION, OPERATIONS, model_of, operation_name
from tests.matrix.providers import Opened, Provider

PRICES: Final = {"image": BY_IMAGE, "speech": BY_CHARACTER, "transcription": BY_SECOND}


@dataclass(frozen=True, slots=True)
class Place:
    """An open site, the provider behind it, and what its catalogue did not take."""

    provider: Provider
    opened: Opened
    site: Site
    unwritable: frozenset[str]


def operation_model(name: str) -> str:
    """Return the model that an operation is asked of."""
    return f"for-{name}"


def catalogue_of(provider: Provider, opened: Opened) -> tuple[dict[str, Any], frozenset[str]]:
    """Return the catalogue, and the models that have no place in it."""
    models: dict[str, Any] = {}
    unwritable = set()
    asked = [
        (cell.name, model_of(cell.name, is_streaming=mode))
        for cell in CELLS
        for mode in cell.has_modes
    ]
    asked += [(operation_name(name), operation_model(name)) for name in OPERATIONS]
    for kind, model_id in asked:
        model = _model(provider, opened, kind, model_id)
        if _is_taken(opened.entries, model_id, model):
            models[model_id] = model
        else:
            unwritable.add(model_id)
    return {"providers": dict(opened.entries), "models": models}, frozenset(unwritable)


def _model(provider: Provider, opened: Opened, name: str, model_id: str) -> dict[str, Any]:
    operation = name.removeprefix(OPERATION) if name.startswith(OPERATION) else "chat"
    is_media = operation in PRICES and "media" in opened.entries
    usual = "media" if is_media else "main"
    deployment = {
        "name": f"{model_id}-1",
        "provider": model_id if model_id in opened.entries else usual,
        "upstream_model": provider.model,
        "price": PRICES.get(operation, PRICE),
        **provider.deployment,
        **provider.deployments.get(name, {}),
    }
    return {
        "context_length": 8192,
        "default_max_tokens": 256,
        # Half of it is charged where an upstream tells nothing of its prompt.
        "prompt_tokens_per_byte_max": "0.5",
        "operations": [operation],
        "deployments": [{k: v for k, v in deployment.items() if v is not None}],
    }


def _is_taken(entries: Mapping[str, Any], model_id: str, model: Mapping[str, Any]) -> bool:
    try:
        CatalogueFile.model_validate({"providers": dict(entries), "models": {model_id: model}})
    except ValidationError:
        return False
    return True
