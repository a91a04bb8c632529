"""Which deployments may serve a request, and why the others may not; pure."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from kit.errors import Reason, TurnpikeError
from services.router.catalog import Deployment, Model
from services.router.pricing import charge_nusd


class Choice(NamedTuple):
    """Candidates in the order they are tried, and who was excluded: too dear, or not healthy.

    `waits_s` has one entry for each that is not healthy: how long it still rests, seconds.
    """

    deployments: Sequence[Deployment]
    dear_count: int
    waits_s: Sequence[float]


def choose(
    model: Model,
    *,
    hold_nusd: int,
    prompt_tokens_max: int,
    max_tokens: int,
    wait_s: Callable[[Deployment, float], float],
    now_s: float,
) -> Choice:
    """Return the candidates for one request.

    A deployment whose worst case costs more than the hold is excluded, and so is one whose breaker
    is open; `wait_s` tells for how long from `now_s` it still is, 0 when it may be called.
    """
    found: list[Deployment] = []
    dear_count = 0
    waits_s: list[float] = []
    for deployment in model.deployments:
        worst_nusd = charge_nusd(
            deployment.price, prompt_tokens=prompt_tokens_max, completion_tokens=max_tokens
        )
        if worst_nusd > hold_nusd:
            dear_count += 1
        elif (left_s := wait_s(deployment, now_s)) > 0:
            waits_s.append(left_s)
        else:
            found.append(deployment)
    return Choice(found, dear_count, waits_s)


def none_available(model: Model, choice: Choice) -> TurnpikeError:
    """Return the refusal of a request that nobody can serve."""
    excluded = {"health": len(choice.waits_s), "price": choice.dear_count}
    reasons = ",".join(f"{name}={count}" for name, count in excluded.items() if count)
    metadata = {"excluded": reasons}
    if choice.waits_s:
        metadata["retry_after_s"] = str(max(1, round(min(choice.waits_s))))
    return TurnpikeError(
        Reason.NO_PROVIDERS_AVAILABLE,
        f"No provider of {model.model_id} is available ({reasons or 'none is configured'}).",
        **metadata,
    )
