"""Which deployments may serve a request, and why the others may not; pure."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from kit.errors import Reason, TurnpikeError
from services.router.capabilities import param_of
from services.router.catalog import DeploymentType
from services.router.pricing import PriceRow, charge_nusd
from services.router.snapshots import Candidate, Selection, Snapshot
from turnpike.router.v1 import router_pb2

BY_NAME: Final = "name"
"""The reason of who was not meant; such are not counted."""

_CHEAPEST: Final = router_pb2.STRATEGY_CHEAPEST
_NOTHING: Final[frozenset[str]] = frozenset()


class Features(NamedTuple):
    """What of a request decides about its route; there is no word of the client's in it.

    `hold_nusd` is the most it may cost; the token and unit counts are upper bounds, `max_tokens`
    that of one choice. `sticky_seed` stands for account and sticky key. `is_constrained` tells that
    the answer's form will be judged.
    """

    needs: frozenset[str]
    adapter: str
    hold_nusd: int
    prompt_tokens_max: int
    max_tokens: int
    completion_tokens_max: int
    unit_count_max: int
    routing: router_pb2.Routing | None
    sticky_seed: bytes = b""
    is_constrained: bool = False


class Eligible(NamedTuple):
    """Who may serve, and why others may not.

    `reasons` has an entry for each that was left out, `counts` sums them up, `waits_s` has one for
    each that rests.
    """

    selection: Selection
    reasons: Mapping[str, str]
    counts: Mapping[str, int]
    waits_s: Sequence[float] = ()


def eligible(snapshot: Snapshot, features: Features, age_s: float) -> Eligible:
    """Return who may serve a request, `age_s` after the snapshot was taken.

    The hold is a ceiling: who could cost more is left out.
    """
    routing = features.routing
    wishes = b"" if routing is None else routing.SerializeToString(deterministic=True)
    key = features.needs, features.adapter, wishes
    if not snapshot.is_resting:
        known: Eligible | None = snapshot.remembered.get(key)
        if known is not None and _is_covered(known.selection, features):
            return known
    found: list[Candidate] = []
    reasons: dict[str, str] = {}
    waits_s: list[float] = []
    for candidate in snapshot.candidates:
        reason = _unwanted(candidate, features) or _unfit(candidate, features)
        if not reason and candidate.rest_s > age_s:
            reason = "health"
            waits_s.append(candidate.rest_s - age_s)
        if reason:
            reasons[candidate.name] = reason
        else:
            found.append(candidate)
    result = Eligible(Selection(found), reasons, _counted(reasons), waits_s)
    if not snapshot.is_resting and "price" not in reasons.values():
        # The other reasons depend on nothing but the kind of request.
        snapshot.remember(key, result)
    return result


def none_available(snapshot: Snapshot, features: Features, found: Eligible) -> TurnpikeError:
    """Return the refusal of a request that nobody can serve.

    When only its parameters stand in the way the request has to change; else it may be repeated.
    """
    counts = found.counts
    if list(counts) == ["parameters"]:
        missing: set[str] = set()
        for candidate in snapshot.candidates:
            if found.reasons.get(candidate.name) == "parameters":
                missing |= features.needs - candidate.features
        param = min(map(param_of, missing))
        return TurnpikeError(
            Reason.UNSUPPORTED_PARAMETER,
            f"No route of {snapshot.model_id} supports {', '.join(sorted(missing))}.",
            param=param,
        )
    reasons = ",".join(f"{name}={count}" for name, count in counts.items())
    metadata = {"excluded": reasons}
    if found.waits_s:
        wait_s = min(found.waits_s)
        metadata["retry_after_s"] = str(max(1, round(wait_s)) if wait_s < _LONG_S else 1)
    return TurnpikeError(
        Reason.NO_PROVIDERS_AVAILABLE,
        f"No provider of {snapshot.model_id} is available ({reasons or 'none is configured'}).",
        **metadata,
    )


_LONG_S: Final = 86_400.0
"""A rest that lasts until one call has found out."""


def worst_case_nusd(price: PriceRow, features: Features) -> int:
    """Return what a request can cost at most at a price."""
    return charge_nusd(
        price,
        prompt_tokens=features.prompt_tokens_max,
        completion_tokens=features.completion_tokens_max,
        units=features.unit_count_max,
    )


def _counted(reasons: Mapping[str, str]) -> Mapping[str, int]:
    """Return how many were left out by each reason, but for those that were not meant."""
    counts: dict[str, int] = {}
    for reason in sorted(reasons.values()):
        if reason != BY_NAME:
            counts[reason] = counts.get(reason, 0) + 1
    return counts


def _is_covered(selection: Selection, features: Features) -> bool:
    """Whether the hold covers every candidate; at the ceiling that is one look."""
    if not selection.candidates:
        return False
    if features.unit_count_max:
        return all(
            worst_case_nusd(each.price, features) <= features.hold_nusd
            for each in selection.candidates
        )
    return worst_case_nusd(selection.ceiling, features) <= features.hold_nusd


def _unfit(candidate: Candidate, features: Features) -> str:
    if features.needs and not features.needs <= candidate.features:
        return "parameters"
    if worst_case_nusd(candidate.price, features) > features.hold_nusd:
        return "price"
    return ""


def _unwanted(candidate: Candidate, features: Features) -> str:
    """Return why the caller does not want a candidate; empty when it may serve."""
    if features.adapter and features.adapter not in candidate.adapters:
        return BY_NAME
    routing = features.routing
    if routing is None:
        return ""
    if not _is_meant(candidate, routing):
        return BY_NAME
    is_allowed = routing.strategy != _CHEAPEST
    if routing.HasField("is_external_allowed"):
        is_allowed = routing.is_external_allowed
    if candidate.type is DeploymentType.EXTERNAL and not is_allowed:
        return "external"
    if not all(_has(candidate, fact) for fact in routing.facts):
        return "policy"
    return "ceiling" if _is_dear(candidate.price, routing) else ""


def _is_meant(candidate: Candidate, routing: router_pb2.Routing) -> bool:
    names = (candidate.name, candidate.provider)
    if routing.deployments and candidate.name not in routing.deployments:
        return False
    if routing.only and not any(name in routing.only for name in names):
        return False
    return not any(name in routing.ignored for name in names)


def _has(candidate: Candidate, fact: str) -> bool:
    """Return whether a candidate has a fact; `name:a|b` is one of several."""
    name, _, values = fact.partition(":")
    if not values:
        return fact in candidate.facts
    return any(f"{name}:{value}" in candidate.facts for value in values.split("|"))


def _is_dear(price: PriceRow, routing: router_pb2.Routing) -> bool:
    """Return whether a price is above a ceiling, or has a figure that the ceilings do not cover."""
    has_fee = routing.HasField("request_pusd_max")
    if has_fee and price.request_pusd > routing.request_pusd_max:
        return True
    has_input = routing.HasField("input_pusd_per_token_max")
    has_output = routing.HasField("output_pusd_per_token_max")
    if has_input and price.input_pusd_per_token > routing.input_pusd_per_token_max:
        return True
    if has_output and price.output_pusd_per_token > routing.output_pusd_per_token_max:
        return True
    is_bounded = has_input or has_output
    return is_bounded and bool((price.request_pusd and not has_fee) or price.unit_pusd)
