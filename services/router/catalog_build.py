"""From the catalogue as it is written to the snapshot that is routed by."""

from kit.ids import name_id
from services.router.aws_entries import BedrockEntry
from services.router.capabilities import FEATURES, NATIVE_FORMAT, capabilities
from services.router.catalog import Catalogue, Deployment, DeploymentType, Function, Model
from services.router.catalog_entries import (
    OPERATIONS,
    CatalogueFile,
    DeploymentEntry,
    ModelEntry,
)
from services.router.google_entries import GoogleAiStudioEntry, VertexEntry
from services.router.pricing import ceiling, floor, free
from services.router.provider_entries import (
    AnthropicEntry,
    OpenAiCompatEntry,
    TritonEntry,
    engine_of,
)
from services.router.supplies import FEE_BPS_DEFAULT, Supply
from services.router.tensor_entries import TensorsEntry


def build(file: CatalogueFile, *, generation: int) -> Catalogue:
    """Return the snapshot of a checked file."""
    models = tuple(_model(file, model_id, entry) for model_id, entry in sorted(file.models.items()))
    names = {name: model for model in models for name in (model.model_id, *model.aliases)}
    functions = tuple(
        Function(
            name=name,
            model_id=names[entry.model].model_id,
            defaults=entry.defaults,
            overridable=tuple(entry.overridable),
        )
        for name, entry in sorted(file.functions.items())
    )
    return Catalogue(
        generation=generation,
        models=models,
        names=names,
        functions=functions,
        kinds={name: provider.kind for name, provider in file.providers.items()},
    )


def _options(file: CatalogueFile, model: ModelEntry, entry: DeploymentEntry) -> dict[str, str]:
    provider = file.providers[entry.provider]
    options = {"engine": engine_of(provider, entry.upstream_model, entry.body)}
    if entry.body:
        options["body"] = entry.body
    if entry.chat_template:
        options["chat_template"] = entry.chat_template
    if entry.image_placeholder:
        options["image_placeholder"] = entry.image_placeholder
    if isinstance(provider, OpenAiCompatEntry | AnthropicEntry) and provider.thinking:
        options["thinking"] = provider.thinking
    if isinstance(provider, GoogleAiStudioEntry | VertexEntry):
        options |= provider.options(entry.upstream_model)
    if isinstance(provider, AnthropicEntry):
        options["sampling"] = provider.sampling
    options |= {name: "yes" for name in ("reasons", "think_tags") if getattr(entry, name)}
    if NATIVE_FORMAT in entry.supports:
        options["output_format"] = "native"
    if isinstance(provider, BedrockEntry):
        options |= provider.options
    if isinstance(provider, TritonEntry):
        options |= _triton_options(model, entry)
    return options


def _triton_options(model: ModelEntry, entry: DeploymentEntry) -> dict[str, str]:
    options: dict[str, str] = {}
    if entry.contract != "auto":
        options["contract"] = entry.contract
    if entry.text_form != "auto":
        options["text_form"] = entry.text_form
    for name, lora in sorted(entry.lora.items()):
        options[f"lora:{name}"] = lora.model_dump_json()
    if entry.chat_tensors is not None:
        options["chat_tensors"] = entry.chat_tensors.model_dump_json()
    if "embedding" in model.operations:
        tensors = entry.tensors or TensorsEntry.model_validate({})
        options["embedding_input"] = tensors.input
        options["embedding_output"] = tensors.output
        options["embedding_token_count"] = tensors.token_count
        options["embedding_is_shortenable"] = "yes" if tensors.is_shortenable else ""
    return options


def _deployment(file: CatalogueFile, model: ModelEntry, entry: DeploymentEntry) -> Deployment:
    provider = file.providers[entry.provider]
    supports = [*entry.supports]
    if entry.chat_tensors is not None:
        supports += FEATURES.intersection(entry.chat_tensors.parameters)
    engine = engine_of(provider, entry.upstream_model, entry.body)
    if entry.contract not in ("auto", "vllm"):
        engine = f"{engine}/{entry.contract}"
    capable = capabilities(engine, supports=supports, lacks=entry.lacks, reasons=entry.reasons)
    byok_price = free(entry.price.unit) if entry.byok_price is None else entry.byok_price.row()
    return Deployment(
        name=entry.name,
        deployment_id=name_id("deployment", entry.name),
        provider=entry.provider,
        kind=provider.kind,
        backend=provider.backend,
        upstream_model=entry.upstream_model,
        price=entry.price.row(),
        priority=entry.priority,
        type=DeploymentType[provider.capacity.upper()],
        capabilities=capable,
        adapters=tuple(entry.adapters),
        forwards_unknown=entry.forwards_unknown,
        options=_options(file, model, entry),
        facts=frozenset(entry.facts),
        byok_price=byok_price,
        supply=_supply(entry),
    )


def _supply(entry: DeploymentEntry) -> Supply | None:
    if not entry.supplier and entry.cost is None:
        return None
    fee_bps = FEE_BPS_DEFAULT if entry.fee_bps is None else entry.fee_bps
    return Supply(
        provider=entry.provider,
        supplier_id=entry.supplier,
        cost=None if entry.cost is None else entry.cost.row(),
        fee_bps=fee_bps if entry.cost is None else 0,
    )


def _model(file: CatalogueFile, model_id: str, entry: ModelEntry) -> Model:
    found = [_deployment(file, entry, deployment) for deployment in entry.deployments]
    prices = [deployment.price for deployment in found]
    cheapest_first = sorted(
        found,
        key=lambda d: (
            d.priority,
            d.price.input_pusd_per_token + d.price.output_pusd_per_token,
            d.price.unit_pusd,
        ),
    )
    return Model(
        model_id=model_id,
        aliases=tuple(entry.aliases),
        owner=entry.owner,
        context_length=entry.context_length,
        default_max_tokens=entry.default_max_tokens,
        prompt_tokens_per_kilobyte_max=int(entry.prompt_tokens_per_byte_max * 1024),
        image_tokens_max=entry.image_tokens_max,
        file_tokens_max=entry.file_tokens_max,
        create_unix_s=entry.create_unix_s,
        deployments=tuple(cheapest_first),
        ceiling=ceiling(prices),
        floor=floor(prices),
        operations=tuple(sorted({OPERATIONS[name] for name in entry.operations})),
    )
