"""Fixtures of a whole site for the recorded answers."""

from typing import Any

import pytest

from tests.fakes.openai_upstream import OpenAiUpstream
from tests.fixtures.catalogues import PRICE
from tests.fixtures.gateway import OpenSite, Site, Wish, migrated_rooms, open_site

__all__ = ["migrated_rooms", "open_site"]


@pytest.fixture
async def scripted(open_site: OpenSite, openai_upstream: OpenAiUpstream) -> Site:
    """A site whose models are named after what they serve; `far` is external."""
    deployment = {"upstream_model": "upstream-small", "price": PRICE}
    served = {"chat": "chat", "completion": "completion", "embedding": "embedding", "far": "chat"}
    provider = {"kind": "openai_compat", "base_url": openai_upstream.base_url}
    models: dict[str, Any] = {}
    for name, operation in served.items():
        where = "far" if name == "far" else "main"
        deployments = [{"name": f"{name}-here", "provider": where, **deployment}]
        models[name] = {
            "context_length": 8192,
            "operations": [operation],
            "deployments": deployments,
        }
    providers = {"main": provider, "far": {**provider, "type": "external"}}
    return await open_site(Wish(catalogue={"providers": providers, "models": models}))
