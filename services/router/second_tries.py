"""What follows from a failed call: who hears of it, and whether another one may be made."""

import asyncio
from collections.abc import Iterator

from services.router.attempts import BREAKING, PASSING
from services.router.fleet import Attempt, Fleet
from services.router.legs import Try
from services.router.providers.port import Failure, ProviderError
from services.router.retry_budget import FREE, RetryBudget
from services.router.run import Run
from services.router.settings import RouterSettings


class SecondTries:
    """Decides about calls beyond a request's first; `budget` counts and pays for them."""

    def __init__(self, settings: RouterSettings, fleet: Fleet) -> None:
        self._settings = settings
        self._fleet = fleet
        self.budget = RetryBudget(settings.retry_share)

    def affords(self, run: Run) -> bool:
        """Return whether one more call may be made after the last failure, and pay for it."""
        if run.attempts.failures[-1][1].failure in FREE:
            return True
        return self.budget.take(asyncio.get_running_loop().time())

    def note(self, run: Run, attempt: Attempt, error: ProviderError) -> None:
        """Remember a failed call, and what it says about the deployment."""
        run.attempts.add(attempt.deployment.name, error)
        if error.failure is Failure.INVALID_OUTPUT:
            attempt.failed_open(asyncio.get_running_loop().time(), run.request_id)
        elif self._is_telling(run, error):
            attempt.failed(error)

    def again(self, run: Run) -> Iterator[Try]:
        """Yield the last one once more, if that may help, is not forbidden, and there is time.

        To be asked for when nobody else is left.
        """
        settings, turn = self._settings, run.turn
        if turn is None or run.is_refused or run.call_count >= settings.attempts_max:
            return
        left_s = run.deadline_s - asyncio.get_running_loop().time()
        if run.envelope.routing.has_no_fallback or left_s < settings.attempt_min_s:
            return
        member = self._fleet.member(turn.deployment)
        is_well = member is not None and member.breaker.is_closed
        if is_well and run.attempts.failures[-1][1].failure in PASSING:
            yield turn

    def _is_telling(self, run: Run, error: ProviderError) -> bool:
        """Return whether a failure says something about the deployment's health."""
        is_impatient = run.envelope.timeout_ms < self._settings.timeout_max_s * 1000
        if error.failure is Failure.TIMEOUT and is_impatient and not run.is_committed:
            return False
        return error.failure in BREAKING
