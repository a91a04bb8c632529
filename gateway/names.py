"""What the names of a request mean: models, deployments, adapters, providers and presets; pure.

The first meaning wins: id or alias, deployment, `model:adapter`, an adapter or a `provider/model`
that only one model has. `turnpike::model_name::x` and `turnpike::model_name::provider::x` say which
is meant, `turnpike::function_name::x` names a preset; `tensorzero::` is another spelling of the
prefix. Source: `facts/features.md` section 8.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
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
    named = chain(
        _by_id(known),
        (
            (p.deployment, Meaning(m, (p.deployment,)))
            for message, m in known
            for p in message.places
        ),
        _with_adapter(known),
        _unambiguous(_by_adapter(known)),
        _unambiguous(_by_provider(known)),
    )
    for name, meaning in named:
        found.setdefault(name, meaning)
    return found


Known = Iterable[tuple[router_pb2.Model, M]]
Named = Iterator[tuple[str, Meaning[M]]]


def _by_id(known: Known[M]) -> Named[M]:
    for message, model in known:
        for name in (message.model_id, *message.aliases):
            yield name, Meaning(model)


def _with_adapter(known: Known[M]) -> Named[M]:
    for message, model in known:
        for adapter in adapters_of(message):
            for name in (message.model_id, *message.aliases):
                yield f"{name}:{adapter}", Meaning(model, (), adapter)


def _unambiguous(named: Mapping[str, list[Meaning[M]]]) -> Named[M]:
    return ((name, owners[0]) for name, owners in named.items() if len(owners) == 1)


def _by_adapter(known: Known[M]) -> dict[str, list[Meaning[M]]]:
    named: dict[str, list[Meaning[M]]] = {}
    for message, model in known:
        for adapter in adapters_of(message):
            named.setdefault(adapter, []).append(Meaning(model, (), adapter))
    return named


def _by_provider(known: Known[M]) -> dict[str, list[Meaning[M]]]:
    """Return who is meant by a provider and a model's name, ours or the provider's own."""
    named: dict[str, list[Meaning[M]]] = {}
    for message, model in known:
        here: dict[str, tuple[str, ...]] = {}
        for place in message.places:
            for name in {message.model_id, place.upstream_model}:
                key = f"{place.provider}/{name}"
                here[key] = (*here.get(key, ()), place.deployment)
        for key, deployments in here.items():
            named.setdefault(key, []).append(Meaning(model, deployments))
    return named


def adapters_of(model: router_pb2.Model) -> list[str]:
    """Return the adapters of a model's deployments, sorted."""
    return sorted({name for place in model.places for name in place.adapters})


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
