"""Which deployments may serve a request, and why the others may not; pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kit.errors import Reason, TurnpikeError
from services.router.catalog import Deployment, Model
from services.router.pricing import charge_nusd


@dataclass(frozen=True, slots=True)
class Choice:
    """Candidates in the order they are tried, and how many were excluded for which reason."""

    deployments: tuple[Deployment, ...]
    excluded: Mapping[str, int]
    retry_after_s: float = 0.0


def choose(
    model: Model,
    *,
    hold_nusd: int,
    prompt_tokens_max: int,
    max_tokens: int,
    wait_s: Callable[[Deployment], float],
) -> Choice:
    """Return the candidates for one request.

    A deployment whose worst case costs more than the hold is excluded, and so is one whose breaker
    is open; `wait_s` tells for how long it still is, 0 when it may be called.
    """
    found: list[Deployment] = []
    dear_count = 0
    waits: list[float] = []
    for deployment in model.deployments:
        worst_nusd = charge_nusd(
            deployment.price, prompt_tokens=prompt_tokens_max, completion_tokens=max_tokens
        )
        if worst_nusd > hold_nusd:
            dear_count += 1
        elif (left_s := wait_s(deployment)) > 0:
            waits.append(left_s)
        else:
            found.append(deployment)
    excluded = {"price": dear_count, "health": len(waits)}
    return Choice(tuple(found), excluded, min(waits, default=0.0))


def none_available(model: Model, choice: Choice) -> TurnpikeError:
    """Return the refusal of a request that nobody can serve."""
    reasons = ",".join(
        f"{name}={count}" for name, count in sorted(choice.excluded.items()) if count
    )
    metadata = {"excluded": reasons}
    if choice.retry_after_s:
        metadata["retry_after_s"] = str(max(1, round(choice.retry_after_s)))
    return TurnpikeError(
        Reason.NO_PROVIDERS_AVAILABLE,
        f"No provider of {model.model_id} is available ({reasons or 'none is configured'}).",
        **metadata,
    )
