"""The form of the `catalogue` section of `turnpike.yaml`: providers, models, prices, functions."""

import hashlib
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Annotated, Final, Literal

from pydantic import Field, JsonValue, model_validator

from kit.money import (
    PUSD_PER_NUSD,
    nusd_from_usd,
    pusd_from_usd,
    pusd_per_token_from_usd_per_million,
)
from services.router.aws_entries import BodyName, deployment_problem
from services.router.capabilities import FEATURES
from services.router.google_entries import GoogleAiStudioEntry, VertexEntry
from services.router.pricing import PriceRow
from services.router.provider_entries import (
    AnthropicEntry,
    Entry,
    Name,
    OpenAiCompatEntry,
    ProviderEntry,
    TritonEntry,
)
from services.router.providers.openai.profiles import PROFILES
from services.router.supplies import FEE_BPS_DEFAULT
from services.router.tensor_entries import (
    ChatTensorsEntry,
    ContractChoice,
    LoraEntry,
    TensorsEntry,
    TextForm,
)
from services.router.vendor_entries import VendorEntry
from turnpike.router.v1 import router_pb2

_SOLD_BY: Final = {"image": "image", "character": "speech", "second": "transcription"}
_MEDIA: Final = frozenset(_SOLD_BY.values())
_RESERVED: Final = frozenset({"model", "stream", "stream_options", "timeout_ms"})
OperationName = Literal["chat", "completion", "embedding", "image", "speech", "transcription"]
OPERATIONS: Final[Mapping[str, "router_pb2.Operation.ValueType"]] = {
    "chat": router_pb2.OPERATION_UNSPECIFIED,
    "completion": router_pb2.OPERATION_COMPLETION,
    "embedding": router_pb2.OPERATION_EMBEDDING,
    "image": router_pb2.OPERATION_IMAGE,
    "speech": router_pb2.OPERATION_SPEECH,
    "transcription": router_pb2.OPERATION_TRANSCRIPTION,
}


class PriceEntry(Entry):
    """What tokens are sold for; USD amounts are exact decimals."""

    input_usd_per_million: Decimal = Field(
        Decimal(0), ge=0, description="Prompt tokens, USD per million; needed without a unit."
    )
    output_usd_per_million: Decimal = Field(
        Decimal(0), ge=0, description="Completion tokens, USD per million; needed without a unit."
    )
    request_usd: Decimal = Field(Decimal(0), ge=0, description="Each request, USD.")
    unit: Literal["", "image", "character", "second"] = Field(
        "", description="What `unit_usd` is for: an image, a character or a second of sound."
    )
    unit_usd: Decimal = Field(Decimal(0), ge=0, description="Each unit, USD.")

    @model_validator(mode="after")
    def _is_exact(self) -> "PriceEntry":
        if bool(self.unit) != ("unit_usd" in self.model_fields_set):
            raise ValueError("unit and unit_usd need each other")
        for name in ("input_usd_per_million", "output_usd_per_million"):
            if not self.unit and name not in self.model_fields_set:
                raise ValueError(f"{name} is missing")
        self.row()
        return self

    @property
    def costs_tokens(self) -> bool:
        """Whether tokens cost anything."""
        return bool(self.input_usd_per_million or self.output_usd_per_million)

    def covers(self, other: "PriceEntry") -> bool:
        """Whether no figure of another price is higher, so that a hold for this is one for it."""
        return (
            self.unit == other.unit
            and self.input_usd_per_million >= other.input_usd_per_million
            and self.output_usd_per_million >= other.output_usd_per_million
            and self.request_usd >= other.request_usd
            and self.unit_usd >= other.unit_usd
        )

    def row(self) -> PriceRow:
        """Return the price as integers, with an id that changes whenever a figure does."""
        input_pusd = pusd_per_token_from_usd_per_million(str(self.input_usd_per_million))
        output_pusd = pusd_per_token_from_usd_per_million(str(self.output_usd_per_million))
        request_pusd = PUSD_PER_NUSD * nusd_from_usd(str(self.request_usd))
        unit_pusd = pusd_from_usd(str(self.unit_usd))
        figures = f"{input_pusd}:{output_pusd}:{request_pusd}"
        if self.unit:
            figures += f":{self.unit}:{unit_pusd}"
        digest = hashlib.sha256(figures.encode()).hexdigest()
        return PriceRow(
            f"price-{digest[:12]}", input_pusd, output_pusd, request_pusd, unit_pusd, self.unit
        )


Fact = Annotated[str, Field(pattern=r"^(zdr|no_data_collection|quantization:[a-z0-9]{2,16})$")]


class DeploymentEntry(Entry):
    """One place where a model can be had."""

    name: Name = Field(description="Unique in the file.")
    provider: str = Field(description="A name from `providers`.")
    upstream_model: str = Field(min_length=1, description="The provider's own name of the model.")
    price: PriceEntry
    byok_price: PriceEntry | None = Field(
        None,
        description="In place of `price` for accounts that bring a key for the provider; no figure"
        " of it is higher. Absent: they pay nothing.",
    )
    supplier: str = Field(
        "",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,99})?$",
        description="Whose capacity it is, where an exchange sells for others: they earn a part of"
        " each charge. Empty: the owner's own.",
    )
    fee_bps: int | None = Field(
        None,
        ge=0,
        le=10_000,
        description="What the owner keeps of a supplier's charges, hundredths of a percent;"
        f" {FEE_BPS_DEFAULT} unless it says otherwise.",
    )
    cost: PriceEntry | None = Field(
        None,
        description="What the owner is charged by the provider, or pays the supplier in place of"
        " a share. Absent: nothing is booked as cost.",
    )
    priority: int = Field(0, description="Lower is tried first.")
    supports: list[str] = Field(
        default_factory=list, description="Features it has beyond those of its engine."
    )
    lacks: list[str] = Field(
        default_factory=list, description="Features of its engine that it does not have."
    )
    adapters: list[Name] = Field(
        default_factory=list, description="LoRA adapters; callers write `<model>:<adapter>`."
    )
    lora: dict[Name, LoraEntry] = Field(
        default_factory=dict,
        description="What TensorRT-LLM on triton needs to know of `adapters`.",
    )
    facts: list[Fact] = Field(
        default_factory=list,
        description="What callers may ask for: zdr, no_data_collection, quantization:fp8.",
    )
    reasons: bool = Field(
        default=False,
        description="Whether the model reasons by itself: what its vendor does not let such a model"
        " be told is refused. For kinds that speak OpenAI.",
    )
    think_tags: bool = Field(
        default=False,
        description="Whether the model writes thoughts into its text, as <think>...</think>; they"
        " become reasoning_content. For kinds that speak OpenAI.",
    )
    forwards_unknown: bool = Field(
        default=False, description="Whether fields that Turnpike does not know are sent on."
    )
    chat_template: str = Field(
        "",
        description="Path of a tokenizer_config.json or .jinja file; for triton, and for"
        " containers on sagemaker that take a prompt.",
    )
    body: BodyName = Field(
        "",
        description="What the container speaks, for sagemaker only; empty: OpenAI's API.",
    )
    tensors: TensorsEntry | None = Field(
        None, description="Names of tensors, for embedding models on triton; absent: the usual."
    )
    contract: ContractChoice = Field(
        "auto",
        description="Which tensors a language model on triton has; auto: found by their names.",
    )
    text_form: TextForm = Field(
        "auto",
        description="Whether each response has new pieces of text or the whole of it; auto: as"
        " the contract says. For triton only.",
    )
    chat_tensors: ChatTensorsEntry | None = Field(
        None, description="Names of tensors, for contract custom."
    )
    image_placeholder: str = Field(
        "",
        description="What stands for an image in a prompt, when the chat template does not say;"
        " for triton only.",
    )

    @model_validator(mode="after")
    def _own_key_costs_no_more(self) -> "DeploymentEntry":
        if self.byok_price is not None and not self.price.covers(self.byok_price):
            raise ValueError("byok_price is higher than price, or for another unit")
        return self

    @model_validator(mode="after")
    def _terms_fit(self) -> "DeploymentEntry":
        if self.fee_bps is not None and (not self.supplier or self.cost is not None):
            raise ValueError("fee_bps needs a supplier that has no cost row")
        if self.cost is not None and self.cost.unit not in ("", self.price.unit):
            raise ValueError(f"cost is for another unit than price: {self.cost.unit}")
        return self

    @model_validator(mode="after")
    def _features_exist(self) -> "DeploymentEntry":
        if unknown := sorted({*self.supports, *self.lacks} - FEATURES):
            raise ValueError(f"{unknown[0]} is no feature; {', '.join(sorted(FEATURES))} are")
        if (self.contract == "custom") != (self.chat_tensors is not None):
            raise ValueError("contract custom and chat_tensors need each other")
        if self.contract == "vllm" and self.text_form == "whole":
            raise ValueError("the text of contract vllm comes in pieces")
        if stray := sorted(self.lora.keys() - set(self.adapters)):
            raise ValueError(f"lora: {stray[0]} is none of the adapters")
        return self


class ModelEntry(Entry):
    """A model as callers see it."""

    aliases: list[Name] = Field(default_factory=list, description="Other names for it.")
    owner: str = Field("turnpike", description="`owned_by` in /v1/models.")
    context_length: int = Field(ge=2, description="Tokens of prompt and answer together.")
    default_max_tokens: int = Field(4096, ge=1, description="Output bound when none is given.")
    prompt_tokens_per_byte_max: Decimal = Field(
        Decimal("0.5"), gt=0, le=4, description="Upper bound that sizes holds."
    )
    image_tokens_max: int = Field(1600, ge=0, description="The same for one image, tokens.")
    file_tokens_max: int = Field(
        32_768, ge=0, description="The same for one file or recording, tokens."
    )
    create_unix_s: int = Field(1_760_000_000, ge=0, description="`created` in /v1/models.")
    operations: tuple[OperationName, ...] = Field(
        ("chat",),
        min_length=1,
        description="What can be asked of it; every deployment must serve all of it.",
    )
    deployments: list[DeploymentEntry] = Field(min_length=1)

    @model_validator(mode="after")
    def _counts_one_unit(self) -> "ModelEntry":
        units = {entry.price.unit for entry in self.deployments if entry.price.unit}
        if len(units) > 1:
            raise ValueError(f"its deployments are sold by different units: {sorted(units)}")
        for unit in units:
            if _SOLD_BY[unit] not in self.operations:
                raise ValueError(f"the unit {unit} needs {_SOLD_BY[unit]} among its operations")
        if "speech" in self.operations:
            for entry in self.deployments:
                if not entry.price.unit and entry.price.costs_tokens:
                    raise ValueError("speech is sold by characters: nobody counts its tokens")
        return self


class FunctionEntry(Entry):
    """A preset that callers address as `turnpike::function_name::<name>`."""

    model: str = Field(description="The model that runs it, by its id or an alias.")
    defaults: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Request fields; `messages` go before the request's own.",
    )
    overridable: list[str] = Field(
        default_factory=list, description="Fields of `defaults` that a request may set itself."
    )

    @model_validator(mode="after")
    def _fits(self) -> "FunctionEntry":
        if reserved := sorted(_RESERVED & self.defaults.keys()):
            raise ValueError(f"defaults may not set {reserved[0]}")
        if unset := sorted(set(self.overridable) - self.defaults.keys()):
            raise ValueError(f"{unset[0]} is overridable and has no default")
        return self


class CatalogueFile(Entry):
    """The `catalogue` section."""

    providers: dict[Name, ProviderEntry] = Field(default_factory=dict)
    models: dict[Name, ModelEntry] = Field(default_factory=dict)
    functions: dict[Name, FunctionEntry] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_fit(self) -> "CatalogueFile":
        seen: set[str] = set()
        deployments: set[str] = set()
        for model_id, model in self.models.items():
            for name in (model_id, *model.aliases):
                if name in seen:
                    raise ValueError(f"the name {name} means two models")
                seen.add(name)
            for deployment in model.deployments:
                if deployment.provider not in self.providers:
                    raise ValueError(
                        f"deployment {deployment.name}: no provider {deployment.provider}"
                    )
                if deployment.name in deployments:
                    raise ValueError(f"two deployments are called {deployment.name}")
                deployments.add(deployment.name)
                self._check_media(model, deployment)
                self._check_aws(model, deployment)
        for name, function in self.functions.items():
            if function.model not in seen:
                raise ValueError(f"function {name}: no model {function.model}")
        return self

    @model_validator(mode="after")
    def _operations_fit(self) -> "CatalogueFile":
        for model in self.models.values():
            served = set(model.operations)
            for deployment in model.deployments:
                provider = self.providers[deployment.provider]
                _check_profile(deployment, provider, served)
                if isinstance(provider, AnthropicEntry) and served != {"chat"}:
                    raise ValueError(f"deployment {deployment.name}: anthropic serves chat alone")
                if isinstance(provider, GoogleAiStudioEntry | VertexEntry) and (
                    obstacle := provider.obstacle(deployment.upstream_model, served)
                ):
                    raise ValueError(f"deployment {deployment.name}: {obstacle}")
                is_triton = isinstance(provider, TritonEntry)
                is_embedder = is_triton and "embedding" in served
                if is_embedder and served != {"embedding"}:
                    raise ValueError(
                        f"deployment {deployment.name}: a model on triton serves either text or"
                        " embeddings"
                    )
                if deployment.tensors is not None and not is_embedder:
                    raise ValueError(
                        f"deployment {deployment.name}: only an embedding model on triton has"
                        " tensors"
                    )
                is_told = deployment.contract != "auto" or deployment.text_form != "auto"
                if is_told and (is_embedder or not is_triton):
                    raise ValueError(
                        f"deployment {deployment.name}: only a language model on triton has a"
                        " contract"
                    )
        return self

    def _check_aws(self, model: ModelEntry, deployment: DeploymentEntry) -> None:
        problem = deployment_problem(
            self.providers[deployment.provider].kind,
            deployment.body,
            model.operations,
            has_template=bool(deployment.chat_template),
        )
        if problem:
            raise ValueError(f"deployment {deployment.name}: {problem}")

    def _check_media(self, model: ModelEntry, deployment: DeploymentEntry) -> None:
        kind = self.providers[deployment.provider].kind
        if kind == "triton" and not _MEDIA.isdisjoint(model.operations):
            raise ValueError(f"deployment {deployment.name}: triton serves no images or sound here")


def _check_profile(
    deployment: DeploymentEntry, provider: ProviderEntry, served: Iterable[OperationName]
) -> None:
    """Check what is asked of a deployment against what its vendor has."""
    if not isinstance(provider, OpenAiCompatEntry | VendorEntry):
        if deployment.reasons or deployment.think_tags:
            raise ValueError(
                f"deployment {deployment.name}: reasons and think_tags are for kinds that speak"
                " OpenAI"
            )
        return
    if missing := sorted(set(served) - PROFILES[provider.engine].operations):
        raise ValueError(
            f"deployment {deployment.name}: {provider.engine} does not serve {missing[0]}"
        )
