"""What the names of a request mean: models, deployments, adapters, providers and presets; pure.

The first meaning wins: id or alias, deployment, `model:adapter`, an adapter that only one model
has, `provider/model`. `turnpike::model_name::x` and `turnpike::model_name::provider::x` say which
is meant, `turnpike::function_name::x` names a preset; `tensorzero::` is another spelling of the
prefix. Source: `facts/features.md` section 8.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Generic, NamedTuple, TypeVar

from kit.errors import Reason, TurnpikeError
from turnpike.router.v1 import router_pb2

PREFIXES: Final = ("turnpike::", "tensorzero::")
_FUNCTION: Final = "function_name::"
_MODEL: Final = "model_name::"
M = TypeVar("M")


class Meaning(NamedTuple, Generic[M]):
    """A model, and which of its deployments or adapters is meant, if one is."""

    model: M
    deployments: tuple[str, ...] = ()
    adapter: str = ""


def meanings(models: Iterable[tuple[router_pb2.Model, M]]) -> dict[str, Meaning[M]]:
    """Return what every plain name means."""
    known = list(models)
    found: dict[str, Meaning[M]] = {}
    for message, model in known:
        for name in (message.model_id, *message.aliases):
            found.setdefault(name, Meaning(model))
    for message, model in known:
        for place in message.places:
            found.setdefault(place.deployment, Meaning(model, (place.deployment,)))
    _name_adapters(known, found)
    for message, model in known:
        for name, deployments in _by_provider(message).items():
            found.setdefault(name, Meaning(model, deployments))
    return found


def _name_adapters(
    known: Iterable[tuple[router_pb2.Model, M]], found: dict[str, Meaning[M]]
) -> None:
    owners: dict[str, list[Meaning[M]]] = {}
    for message, model in known:
        for adapter in adapters_of(message):
            meaning = Meaning(model, (), adapter)
            owners.setdefault(adapter, []).append(meaning)
            for name in (message.model_id, *message.aliases):
                found.setdefault(f"{name}:{adapter}", meaning)
    for adapter, having in owners.items():
        if len(having) == 1:
            found.setdefault(adapter, having[0])


def adapters_of(model: router_pb2.Model) -> list[str]:
    """Return the adapters of a model's deployments, sorted."""
    return sorted({name for place in model.places for name in place.adapters})


def _by_provider(message: router_pb2.Model) -> dict[str, tuple[str, ...]]:
    named: dict[str, tuple[str, ...]] = {}
    for place in message.places:
        for model in {message.model_id, place.upstream_model}:
            key = f"{place.provider}/{model}"
            named[key] = (*named.get(key, ()), place.deployment)
    return named


def plain_name(name: str, functions: Mapping[str, str]) -> str:
    """Return a name without its prefix; `functions` tells the model of each preset.

    Raises:
        TurnpikeError: `INVALID_VALUE`: nothing stands behind the prefix. `FUNCTION_NOT_FOUND`.
    """
    rest = unprefixed(name)
    if rest is None:
        return name
    if (function := function_of(name)) is not None:
        if function not in functions:
            raise function_not_found()
        return functions[function]
    if not rest.startswith(_MODEL):
        return name
    provider, _, model = rest.removeprefix(_MODEL).partition("::")
    if not provider or rest.endswith("::"):
        raise TurnpikeError(Reason.INVALID_VALUE, f"{name} names no model.", param="model")
    return f"{provider}/{model}" if model else provider


def function_of(name: str) -> str | None:
    """Return the preset that a name means; None when it means none.

    Raises:
        TurnpikeError: `INVALID_VALUE`: nothing stands behind the prefix.
    """
    rest = unprefixed(name)
    if rest is None or not rest.startswith(_FUNCTION):
        return None
    function = rest.removeprefix(_FUNCTION)
    if not function:
        raise TurnpikeError(Reason.INVALID_VALUE, f"{name} names no function.", param="model")
    return function


def unprefixed(name: str) -> str | None:
    """Return what follows our prefix; None when the name has none."""
    for prefix in PREFIXES:
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return None


def function_not_found() -> TurnpikeError:
    """Return the refusal of a preset that does not exist."""
    return TurnpikeError(
        Reason.FUNCTION_NOT_FOUND, "The function does not exist for this key.", param="model"
    )
