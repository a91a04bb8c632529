"""Models, deployments and prices as one immutable snapshot; pure.

A snapshot is built whole from the file and swapped whole; requests keep the one they started with.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from services.router.pricing import PriceRow, free
from services.router.supplies import Supply
from turnpike.router.v1 import router_pb2

CHAT_ONLY = (router_pb2.OPERATION_UNSPECIFIED,)
"""What a model serves when its entry does not say."""


class DeploymentType(IntEnum):
    """Whose capacity a deployment is; lower is preferred by the balanced strategy."""

    NATIVE = 0
    QUOTA = 1
    EXTERNAL = 2


@dataclass(frozen=True, slots=True)
class Deployment:
    """One place where a model can be had.

    `deployment_id` is stable for the name. `backend` is what X-Backend shows. `priority` orders
    candidates, lower first. `capabilities` are the features it honours, `adapters` the LoRAs it
    serves; `forwards_unknown` lets fields through that Turnpike does not know. `facts` are what
    callers may ask of it, such as `zdr` or `quantization:fp8`. `byok_price` stands in place of
    `price` for who brings a key, and exceeds it in no figure. `supply` says who is owed something
    for its answers, None where nobody is.
    """

    name: str
    deployment_id: str
    provider: str
    kind: str
    backend: str
    upstream_model: str
    price: PriceRow
    priority: int = 0
    type: DeploymentType = DeploymentType.NATIVE
    capabilities: frozenset[str] = frozenset()
    adapters: tuple[str, ...] = ()
    forwards_unknown: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    facts: frozenset[str] = frozenset()
    byok_price: PriceRow = field(default_factory=free)
    supply: Supply | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A model as callers see it; `ceiling` covers every deployment's price.

    `operations` is what can be asked of it.
    """

    model_id: str
    aliases: tuple[str, ...]
    owner: str
    context_length: int
    default_max_tokens: int
    prompt_tokens_per_kilobyte_max: int
    create_unix_s: int
    deployments: tuple[Deployment, ...]
    ceiling: PriceRow
    floor: PriceRow
    image_tokens_max: int = 0
    file_tokens_max: int = 0
    operations: tuple["router_pb2.Operation.ValueType", ...] = CHAT_ONLY


@dataclass(frozen=True, slots=True)
class Function:
    """A preset: a model, fields that a request gets, and which of them it may override.

    `defaults` holds JSON values by field; its `messages` go before the request's own.
    """

    name: str
    model_id: str
    defaults: Mapping[str, object]
    overridable: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything that can be routed to; `names` maps ids and aliases to models.

    `kinds` are those of all providers by their names.
    """

    generation: int
    models: tuple[Model, ...]
    names: Mapping[str, Model]
    functions: tuple[Function, ...] = ()
    kinds: Mapping[str, str] = field(default_factory=dict)

    def find(self, name: str) -> Model | None:
        """Return the model with this id or alias, compared exactly."""
        return self.names.get(name)


EMPTY = Catalogue(generation=0, models=(), names={})
"""The catalogue before the first one was read."""
