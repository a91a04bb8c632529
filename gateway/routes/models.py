"""`GET /v1/models` and `GET /v1/models/{id}`; ids may hold slashes."""

from aiohttp import web

from gateway.admission import Caller
from gateway.credentials import NoKeyError
from gateway.deps import Deps
from gateway.exchange import Exchange
from gateway.names import adapters_of, function_of
from gateway.openai.schema import encode
from kit.errors import Reason, TurnpikeError
from kit.money import PUSD_PER_TOKEN_PER_USD_PER_MILLION, format_usd_of_pusd
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2


async def list_models(deps: Deps, request: web.BaseRequest, exchange: Exchange) -> web.Response:
    """List the models the caller may use, their adapters, and the functions that run on them."""
    exchange.route = "GET /v1/models"
    caller = await _caller(deps, request, exchange)
    found: list[dict[str, object]] = []
    for model in deps.models.visible(caller.verdict):
        found.append(model_object(model.message))
        found += [
            _child(model.message, f"{model.model_id}:{adapter}")
            for adapter in adapters_of(model.message)
        ]
    for name, model in deps.models.visible_presets(caller.verdict).items():
        found.append(_child(model.message, f"turnpike::function_name::{name}"))
    return _json(deps, {"object": "list", "data": found})


async def get_model(deps: Deps, request: web.BaseRequest, exchange: Exchange) -> web.Response:
    """Return one model, by any of its names."""
    exchange.route = "GET /v1/models/{id}"
    caller = await _caller(deps, request, exchange)
    name = request.path.partition("/models/")[2]
    model, _, adapter = deps.models.find(name, caller.verdict)
    if adapter:
        return _json(deps, _child(model.message, f"{model.model_id}:{adapter}"))
    if function_of(name) is not None:
        return _json(deps, _child(model.message, name))
    return _json(deps, model_object(model.message))


async def _caller(deps: Deps, request: web.BaseRequest, exchange: Exchange) -> Caller:
    """Return who asks; where requests may pay for themselves anybody may look for what to buy."""
    try:
        return await deps.admission.identify(request.headers, exchange.dialect, "models")
    except NoKeyError as refusal:
        if deps.rail is None:
            raise
        offer = deps.rail.offer(request.headers, exchange.dialect, refusal)
        if offer.sent.credential:
            raise TurnpikeError(
                Reason.PAYMENT_METHOD_UNSUPPORTED, "The list of models is free; send no payment."
            ) from refusal
        return offer.caller


def model_object(model: router_pb2.Model) -> dict[str, object]:
    """Return OpenAI's model object with price, context and what is supported."""
    return {
        "id": model.model_id,
        "object": "model",
        "created": model.create_unix_s,
        "owned_by": model.owner,
        "aliases": list(model.aliases),
        "context_length": model.context_length,
        "pricing": _pricing(model.floor_price, model.ceiling_price),
        "supported_parameters": list(model.supported_parameters),
    }


def _child(model: router_pb2.Model, name: str) -> dict[str, object]:
    """Return an adapter or a function on a model as a model of its own."""
    return {**model_object(model), "id": name, "aliases": [], "parent": model.model_id}


def _pricing(floor: usage_pb2.Price, ceiling: usage_pb2.Price) -> dict[str, object]:
    by_tokens: dict[str, object] = {
        "input_usd_per_million": _usd(floor.input_pusd_per_token),
        "output_usd_per_million": _usd(floor.output_pusd_per_token),
        "input_usd_per_million_max": _usd(ceiling.input_pusd_per_token),
        "output_usd_per_million_max": _usd(ceiling.output_pusd_per_token),
    }
    if not ceiling.unit:
        return by_tokens
    by_units = {
        "unit": ceiling.unit,
        "usd_per_unit": format_usd_of_pusd(floor.unit_pusd),
        "usd_per_unit_max": format_usd_of_pusd(ceiling.unit_pusd),
    }
    return by_tokens | by_units


def _usd(price_pusd_per_token: int) -> str:
    whole, part = divmod(price_pusd_per_token, PUSD_PER_TOKEN_PER_USD_PER_MILLION)
    return f"{whole}.{part:06d}".rstrip("0").ljust(len(str(whole)) + 3, "0")


def _json(deps: Deps, value: object) -> web.Response:
    return web.Response(
        body=encode(value),
        headers={
            "Content-Type": "application/json; charset=utf-8",
            "X-Request-Id": deps.new_id(),
        },
    )
