"""OpenRouter's `provider` object, as further names for Turnpike's own wishes of a route; pure.

Names in `order`, `only` and `ignore` are those of providers or deployments. Parameters are required
anyway, so `require_parameters` can only be asked for; what is merely preferred is told as ignored.
Source: OpenRouter API reference, `Provider routing`, and the types of its SDK 1.3 (read 2026-11).
"""

from decimal import ROUND_FLOOR, Decimal, InvalidOperation
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from gateway.openai.figures import wrong
from turnpike.router.v1 import router_pb2

NAMES_MAX: Final = 32
"""Most names in one list."""

PUSD_PER_TOKEN_PER_USD_PER_MILLION: Final = 1_000_000
PUSD_PER_USD: Final = 10**12
USD_MAX: Final = 10**6
"""Dearest price that a ceiling may name, USD per million tokens or per request."""

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Names = Annotated[list[Name], Meta(max_length=NAMES_MAX)]
Quantization = Annotated[str, Meta(pattern=r"^[a-z0-9]{2,16}$")]
Order = Literal["price", "throughput", "latency"]
_SORTS: Final = {
    "price": router_pb2.STRATEGY_CHEAPEST,
    "throughput": router_pb2.STRATEGY_FASTEST,
    "latency": router_pb2.STRATEGY_FASTEST,
}


class Sort(msgspec.Struct, forbid_unknown_fields=True):
    """What decides; `partition` has no meaning where one model is asked for."""

    by: Order
    partition: Literal["model", "none"] | None = None


class MaxPrice(msgspec.Struct, forbid_unknown_fields=True):
    """Dearest prices, USD: of a million tokens each, and of a request."""

    prompt: str | int | float | None = None
    completion: str | int | float | None = None
    request: str | int | float | None = None


class ProviderWishes(msgspec.Struct, forbid_unknown_fields=True):
    """The object; a member that is absent or null wants nothing."""

    order: Names | None = None
    only: Names | None = None
    ignore: Names | None = None
    allow_fallbacks: bool | None = None
    require_parameters: bool | None = None
    data_collection: Literal["allow", "deny"] | None = None
    zdr: bool | None = None
    quantizations: Annotated[list[Quantization], Meta(max_length=NAMES_MAX)] | None = None
    sort: Order | Sort | None = None
    max_price: MaxPrice | None = None
    preferred_min_throughput: Any = None
    preferred_max_latency: Any = None

    @property
    def strategy(self) -> "router_pb2.Strategy.ValueType":
        """The strategy that `sort` stands for; 0 for none."""
        if self.sort is None:
            return router_pb2.STRATEGY_UNSPECIFIED
        return _SORTS[self.sort.by if isinstance(self.sort, Sort) else self.sort]

    @property
    def ignored(self) -> tuple[str, ...]:
        """What is asked for and not honoured, as `X-Turnpike-Ignored` names it."""
        found = [name for name in _PREFERRED if getattr(self, name) is not None]
        if self.require_parameters is False:
            found.append("require_parameters")
        return tuple(f"provider.{name}" for name in found)


_PREFERRED: Final = ("preferred_min_throughput", "preferred_max_latency")


def put_wishes(wanted: router_pb2.Routing, wishes: ProviderWishes) -> None:
    """Add what an object wants, but for its strategy, to what is wanted.

    Raises:
        TurnpikeError: `INVALID_VALUE`: a price is none.
    """
    wanted.preferred.extend(wishes.order or ())
    wanted.only.extend(wishes.only or ())
    wanted.ignored.extend(wishes.ignore or ())
    wanted.has_no_fallback = wishes.allow_fallbacks is False
    if wishes.zdr:
        wanted.facts.append("zdr")
    if wishes.data_collection == "deny":
        wanted.facts.append("no_data_collection")
    if wishes.quantizations:
        wanted.facts.append(f"quantization:{'|'.join(wishes.quantizations)}")
    price = wishes.max_price
    if price is None:
        return
    scale = PUSD_PER_TOKEN_PER_USD_PER_MILLION
    if price.prompt is not None:
        wanted.input_pusd_per_token_max = _ceiling("prompt", price.prompt, scale)
    if price.completion is not None:
        wanted.output_pusd_per_token_max = _ceiling("completion", price.completion, scale)
    if price.request is not None:
        wanted.request_pusd_max = _ceiling("request", price.request, PUSD_PER_USD)


def _ceiling(name: str, value: str | float, scale: int) -> int:
    """Return a ceiling in pico-USD; what is finer is rounded down, as no price lies between."""
    try:
        usd = Decimal(str(value))
    except InvalidOperation:
        usd = Decimal(-1)
    if not (usd.is_finite() and 0 <= usd <= USD_MAX):
        param = f"provider.max_price.{name}"
        raise wrong(param, f"{param} must be a price in USD, from 0 to {USD_MAX}.")
    return int((usd * scale).to_integral_value(ROUND_FLOOR))
