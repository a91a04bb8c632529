"""From a deployment's configuration to an open adapter."""

import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from pydantic import SecretStr

from kit.clock import Clock
from services.router.aws_entries import BedrockEntry, SageMakerEntry
from services.router.catalog import Catalogue, Deployment
from services.router.catalog_entries import CatalogueFile
from services.router.fleet import Wanted
from services.router.google_entries import GoogleAiStudioEntry, VertexEntry
from services.router.prompt_tools import PromptTools
from services.router.provider_entries import (
    AnthropicEntry,
    OpenAiCompatEntry,
    ProviderEntry,
    TritonEntry,
)
from services.router.providers.openai.compat import OpenAiCompatSettings, open_openai_compat
from services.router.providers.openai.profiles import PROFILES
from services.router.providers.openai.vendor import Vendor, open_openai_vendor
from services.router.providers.port import Provider
from services.router.settings import RouterSettings
from services.router.tensor_entries import ChatTensorsEntry, LoraEntry
from services.router.upstream import HttpPool
from services.router.vendor_entries import VendorEntry

if TYPE_CHECKING:
    from services.router.providers.triton.contract import LoraSource
    from services.router.providers.triton.contracts import ContractWish
    from services.router.providers.triton.port import TritonConfig
    from services.router.providers.triton.vectors import EmbeddingTensors


class Parts(NamedTuple):
    """What adapters are made with."""

    settings: RouterSettings
    pool: HttpPool
    clock: Clock
    tools: PromptTools


Adapter: TypeAlias = AbstractAsyncContextManager[Provider]


def wanted(file: CatalogueFile, catalogue: Catalogue) -> Iterator[Wanted]:
    """Yield every deployment of a catalogue with what its adapter is made of."""
    for model in catalogue.models:
        for deployment in model.deployments:
            entry = file.providers[deployment.provider]
            options = repr(sorted(deployment.options.items()))
            # What a vendor is told depends on what the deployment can.
            known = repr(sorted(deployment.capabilities) if entry.engine in PROFILES else [])
            parts = (repr(entry), deployment.upstream_model, options, known, *_secrets(entry))
            digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
            yield Wanted(deployment, entry, digest)


def opener(parts: Parts) -> Callable[[Wanted], Adapter]:
    """Return what opens an adapter for a wanted deployment."""

    def open_adapter(item: Wanted) -> Adapter:
        entry = item.entry
        if isinstance(entry, TritonEntry):
            return _open_triton(entry, item.deployment, parts)
        if isinstance(entry, GoogleAiStudioEntry | VertexEntry):
            return _open_google(entry, item.deployment, parts)
        if isinstance(entry, AnthropicEntry):
            return _open_anthropic(entry, parts)
        if isinstance(entry, BedrockEntry | SageMakerEntry):
            return _open_aws(entry, item.deployment, parts)
        return _open_openai(entry, item.deployment, parts)

    return open_adapter


def _secrets(entry: ProviderEntry) -> Iterator[str]:
    """Yield an entry's secrets, which its `repr` hides."""
    for name in sorted(type(entry).model_fields):
        value = getattr(entry, name)
        if isinstance(value, SecretStr):
            yield value.get_secret_value()


def _open_triton(entry: TritonEntry, deployment: Deployment, parts: Parts) -> Adapter:
    from services.router.providers.triton.adapter import open_triton  # noqa: PLC0415 - brings jinja2

    config = _triton(entry, deployment, parts.settings, parts.clock)
    if "embedding_output" not in deployment.options:
        return open_triton(replace(config, tools=parts.tools), http_pool=parts.pool)
    from services.router.providers.triton.embedder import (  # noqa: PLC0415 - seldom used
        open_triton_embedder,
    )

    return open_triton_embedder(config, _tensors(deployment), http_pool=parts.pool)


def _open_google(
    entry: GoogleAiStudioEntry | VertexEntry, deployment: Deployment, parts: Parts
) -> Adapter:
    from services.router.providers.google.adapter import (  # noqa: PLC0415 - seldom used
        VertexAccount,
        open_ai_studio,
        open_vertex,
    )

    pool, fetcher, clock = parts.pool, parts.tools.fetcher, parts.clock
    if isinstance(entry, GoogleAiStudioEntry):
        return open_ai_studio(
            base_url=entry.base_url,
            api_key=entry.api_key,
            pool=pool,
            fetcher=fetcher,
            clock=clock,
        )
    account = VertexAccount(
        base_url=entry.base_url_of_project,
        credentials=entry.credentials,
        metadata_url=entry.metadata_url,
        claude_version=entry.claude_version,
    )
    form = entry.form_of(deployment.upstream_model)
    return open_vertex(account, form, pool=pool, fetcher=fetcher, clock=clock)


@asynccontextmanager
async def _open_anthropic(entry: AnthropicEntry, parts: Parts) -> AsyncIterator[Provider]:
    from services.router.providers.anthropic.codec import (  # noqa: PLC0415 - seldom used
        AnthropicCodec,
    )
    from services.router.providers.key_signer import KeySigner  # noqa: PLC0415
    from services.router.providers.translated import Translated  # noqa: PLC0415

    fields = {"anthropic-version": entry.version}
    if entry.betas:
        fields["anthropic-beta"] = ",".join(entry.betas)
    yield Translated(
        AnthropicCodec(),
        KeySigner("x-api-key", entry.api_key, fields),
        base_url=entry.base_url,
        pool=parts.pool,
        fetcher=parts.tools.fetcher,
        clock=parts.clock,
    )


def _open_aws(
    entry: BedrockEntry | SageMakerEntry, deployment: Deployment, parts: Parts
) -> Adapter:
    from services.router.aws_adapters import (  # noqa: PLC0415 - seldom used
        open_bedrock,
        open_sagemaker,
    )

    pool, fetcher, clock = parts.pool, parts.tools.fetcher, parts.clock
    if isinstance(entry, BedrockEntry):
        return open_bedrock(entry, pool=pool, fetcher=fetcher, clock=clock)
    return open_sagemaker(entry, deployment, pool=pool, fetcher=fetcher, clock=clock)


def _open_openai(
    entry: OpenAiCompatEntry | VendorEntry, deployment: Deployment, parts: Parts
) -> Adapter:
    """Open who speaks OpenAI; who has no words of its own pays for nobody else's."""
    reasons = bool(deployment.options.get("reasons"))
    think_tags = bool(deployment.options.get("think_tags"))
    profile = PROFILES[entry.engine].for_deployment(reasons=reasons, think_tags=think_tags)
    if isinstance(entry, OpenAiCompatEntry):
        profile = replace(
            profile,
            max_tokens_field=entry.max_tokens_field,
            takes_cache_marks=entry.takes_cache_marks,
        )
    settings = OpenAiCompatSettings(
        base_url=entry.base_url,
        api_key=entry.api_key if entry.api_key.get_secret_value() else None,
        max_tokens_field=profile.max_tokens_field,
        headers=entry.all_headers,
        takes_cache_marks=profile.takes_cache_marks,
    )
    if profile.is_plain and not reasons:
        return open_openai_compat(settings, pool=parts.pool, clock=parts.clock)
    vendor = Vendor(profile=profile, capabilities=deployment.capabilities, reasons=reasons)
    return open_openai_vendor(settings, vendor, pool=parts.pool, clock=parts.clock)


def _triton(
    entry: TritonEntry, deployment: Deployment, settings: RouterSettings, clock: Clock
) -> "TritonConfig":
    from services.router.providers.triton.port import (  # noqa: PLC0415 - jinja2
        TritonAddress,
        TritonConfig,
    )
    from services.router.providers.triton.servers import Rules  # noqa: PLC0415
    from services.router.template import load_chat_template  # noqa: PLC0415

    options = deployment.options
    template = None
    if path := options.get("chat_template"):
        template = load_chat_template(Path(path), clock=clock).with_placeholder(
            options.get("image_placeholder", "")
        )
    return TritonConfig(
        model_name=deployment.upstream_model,
        contract=contract_wish(options),
        template=template,
        servers=tuple(
            TritonAddress(server.grpc_address, server.http_address, server.metrics_address)
            for server in entry.all_servers
        ),
        rules=Rules(version_min=entry.version_min, interval_s=settings.probe_interval_s),
        transport=entry.transport,
        connections_max=settings.connections_max,
        connect_s=settings.connect_timeout_s,
    )


def contract_wish(options: Mapping[str, str]) -> "ContractWish":
    """Return what a deployment's options say of its model's contract on Triton."""
    from services.router.providers.triton.contracts import (  # noqa: PLC0415 - seldom used
        ContractName,
        ContractWish,
    )
    from services.router.providers.triton.custom import ChatTensors  # noqa: PLC0415
    from services.router.providers.triton.reader import OutputNames  # noqa: PLC0415

    form = options.get("text_form", "auto")
    is_whole = None if form == "auto" else form == "whole"
    name = ContractName(options.get("contract", "auto"))
    tensors = None
    if given := options.get("chat_tensors"):
        entry = ChatTensorsEntry.model_validate_json(given)
        outputs = OutputNames(
            text=entry.output,
            finish_reason=entry.finish_reason,
            prompt_tokens=entry.prompt_tokens,
            completion_tokens=entry.completion_tokens,
            is_whole=bool(is_whole),
            are_totals=entry.counts_are_totals,
        )
        tensors = ChatTensors(
            text=entry.input,
            max_tokens=entry.max_tokens,
            outputs=outputs,
            flags=[name for name in (entry.stream, *entry.flags) if name],
            parameters=entry.parameters,
        )
    return ContractWish(name, is_whole, tensors, _lora_sources(options))


def _lora_sources(options: Mapping[str, str]) -> "dict[str, LoraSource]":
    from services.router.providers.triton.contract import LoraSource  # noqa: PLC0415

    found: dict[str, LoraSource] = {}
    for option, value in options.items():
        kind, _, name = option.partition(":")
        if kind == "lora":
            entry = LoraEntry.model_validate_json(value)
            found[name] = LoraSource(entry.task_id, entry.path)
    return found


def _tensors(deployment: Deployment) -> "EmbeddingTensors":
    from services.router.providers.triton.vectors import EmbeddingTensors  # noqa: PLC0415

    options = deployment.options
    return EmbeddingTensors(
        text=options["embedding_input"],
        embedding=options["embedding_output"],
        counts=options["embedding_token_count"],
        is_shortenable=bool(options["embedding_is_shortenable"]),
    )
