"""From a deployment's configuration to an open adapter."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kit.clock import Clock
from services.router.catalog import Catalogue, Deployment
from services.router.catalog_entries import CatalogueFile, OpenAiCompatEntry, TritonEntry
from services.router.fleet import Wanted
from services.router.prompt_tools import PromptTools
from services.router.providers.openai_compat import OpenAiCompatSettings, open_openai_compat
from services.router.providers.port import Provider
from services.router.settings import RouterSettings
from services.router.upstream import HttpPool

if TYPE_CHECKING:
    from services.router.providers.triton_port import TritonConfig
    from services.router.providers.triton_vectors import EmbeddingTensors


def wanted(file: CatalogueFile, catalogue: Catalogue) -> Iterator[Wanted]:
    """Yield every deployment of a catalogue with what its adapter is made of."""
    for model in catalogue.models:
        for deployment in model.deployments:
            entry = file.providers[deployment.provider]
            options = repr(sorted(deployment.options.items()))
            parts: tuple[str, ...] = (repr(entry), deployment.upstream_model, options)
            if isinstance(entry, OpenAiCompatEntry):
                parts += (entry.api_key.get_secret_value(),)
            digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
            yield Wanted(deployment, entry, digest)


def opener(
    settings: RouterSettings, pool: HttpPool, clock: Clock, tools: PromptTools
) -> Callable[[Wanted], AbstractAsyncContextManager[Provider]]:
    """Return what opens an adapter for a wanted deployment."""

    def open_adapter(item: Wanted) -> AbstractAsyncContextManager[Provider]:
        if isinstance(item.entry, OpenAiCompatEntry):
            return open_openai_compat(_openai(item.entry), pool=pool, clock=clock)
        from services.router.providers.triton import open_triton  # noqa: PLC0415 - brings jinja2

        config = _triton(item.entry, item.deployment, settings, clock)
        if "embedding_output" not in item.deployment.options:
            return open_triton(replace(config, tools=tools), http_pool=pool)
        from services.router.providers.triton_embedder import (  # noqa: PLC0415 - seldom used
            open_triton_embedder,
        )

        return open_triton_embedder(config, _tensors(item.deployment), http_pool=pool)

    return open_adapter


def _openai(entry: OpenAiCompatEntry) -> OpenAiCompatSettings:
    return OpenAiCompatSettings(
        base_url=entry.base_url,
        api_key=entry.api_key if entry.api_key.get_secret_value() else None,
        max_tokens_field=entry.max_tokens_field,
        headers=entry.headers,
    )


def _triton(
    entry: TritonEntry, deployment: Deployment, settings: RouterSettings, clock: Clock
) -> "TritonConfig":
    from services.router.providers.triton_port import TritonConfig  # noqa: PLC0415 - jinja2
    from services.router.template import load_chat_template  # noqa: PLC0415

    options = deployment.options
    template = None
    if path := options.get("chat_template"):
        template = load_chat_template(Path(path), clock=clock).with_placeholder(
            options.get("image_placeholder", "")
        )
    return TritonConfig(
        model_name=deployment.upstream_model,
        template=template,
        grpc_address=entry.grpc_address,
        http_address=entry.http_address,
        transport=entry.transport,
        connections_max=settings.connections_max,
        connect_s=settings.connect_timeout_s,
    )


def _tensors(deployment: Deployment) -> "EmbeddingTensors":
    from services.router.providers.triton_vectors import EmbeddingTensors  # noqa: PLC0415

    options = deployment.options
    return EmbeddingTensors(
        text=options["embedding_input"],
        embedding=options["embedding_output"],
        counts=options["embedding_token_count"],
        is_shortenable=bool(options["embedding_is_shortenable"]),
    )
