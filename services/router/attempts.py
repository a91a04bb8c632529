"""What a series of failed attempts adds up to: one error for the caller; pure."""

import msgspec

from kit.errors import Reason, TurnpikeError
from services.router.providers.port import Failure, ProviderError

BREAKING = frozenset(
    {Failure.CONNECT, Failure.UNAVAILABLE, Failure.INVALID_RESPONSE, Failure.INCOMPLETE}
    | {Failure.TIMEOUT, Failure.CREDENTIALS, Failure.RATE_LIMITED}
)
"""Failures that say something about the deployment's health."""

_OF_OWN_KEYS = frozenset({Failure.KEY_REFUSED, Failure.KEY_LIMITED})
"""Failures that are between a caller and the providers it has keys for."""

PASSING = frozenset({Failure.CONNECT, Failure.UNAVAILABLE})
"""Failures that may be gone a moment later: who is the last to be tried is tried once more."""

_FINAL_REASON = {
    Failure.REJECTED: Reason.INVALID_VALUE,
    Failure.CONTENT_POLICY: Reason.CONTENT_POLICY_VIOLATION,
    Failure.CONTEXT_LENGTH: Reason.CONTEXT_LENGTH_EXCEEDED,
}


class Attempts(msgspec.Struct):
    """Failed attempts of one request, in order."""

    failures: list[tuple[str, ProviderError]] = []

    def add(self, deployment: str, error: ProviderError) -> None:
        """Remember one."""
        self.failures.append((deployment, error))

    def verdict(self) -> TurnpikeError:
        """Return what the caller is told: the client's own fault, a timeout, or a bad gateway."""
        last = self.failures[-1][1]
        kinds = {error.failure for _, error in self.failures}
        field_at_fault = {"param": last.param} if last.param else {}
        if not last.is_retryable:
            return TurnpikeError(_FINAL_REASON[last.failure], last.message, **field_at_fault)
        if kinds == {Failure.UNSUPPORTED}:
            return TurnpikeError(Reason.UNSUPPORTED_PARAMETER, last.message, **field_at_fault)
        if kinds <= _OF_OWN_KEYS:
            return self._of_own_keys()
        if Failure.INVALID_OUTPUT in kinds:
            broken = next(e for _, e in self.failures if e.failure is Failure.INVALID_OUTPUT)
            message = f"{broken.message} Nothing is charged."
            return TurnpikeError(Reason.UPSTREAM_INVALID_RESPONSE, message, param=broken.param)
        summary = ",".join(f"{name}:{error.failure}" for name, error in self.failures)
        if kinds == {Failure.TIMEOUT}:
            return TurnpikeError(
                Reason.TIMEOUT, "No provider answered within the time limit.", attempts=summary
            )
        return TurnpikeError(
            Reason.ALL_PROVIDERS_FAILED,
            f"All providers failed ({len(self.failures)} tried): {last.message}",
            attempts=summary,
        )

    def _of_own_keys(self) -> TurnpikeError:
        refused = [e for _, e in self.failures if e.failure is Failure.KEY_REFUSED]
        if refused:
            return TurnpikeError(Reason.PROVIDER_KEY_REFUSED, refused[-1].message)
        last = self.failures[-1][1]
        wait_s = str(max(1, round(last.retry_after_s)))
        return TurnpikeError(Reason.RATE_LIMIT_EXCEEDED, last.message, retry_after_s=wait_s)


def broken_off(error: ProviderError) -> tuple[Reason, str]:
    """Return reason and message for an answer that broke after content was sent."""
    if error.failure is Failure.TIMEOUT:
        return Reason.TIMEOUT, "The provider fell silent before the answer was complete."
    if error.failure is Failure.INVALID_OUTPUT:
        return Reason.UPSTREAM_INVALID_RESPONSE, f"{error.message} Its charge is refunded."
    if error.failure in (Failure.INVALID_RESPONSE, Failure.CONTENT_POLICY):
        return Reason.UPSTREAM_INVALID_RESPONSE, error.message
    return Reason.UPSTREAM_INCOMPLETE, "The provider broke off before the answer was complete."
