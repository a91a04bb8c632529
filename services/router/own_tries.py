"""Who is tried for an account that brings its own keys, and with which key; pure.

A request that was sent with the account's key is not sent on with the owner's, unless the key's
`has_fallback` says so; then a provider that refuses the key is asked once more with the owner's.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, Self

from pydantic import SecretStr

from kit.errors import Reason, TurnpikeError
from services.router.catalog import Deployment
from services.router.legs import Leg, Try
from services.router.provider_entries import KEYED_KINDS
from services.router.providers.port import Failure, ProviderError


class OwnKey(NamedTuple):
    """An account's key for one provider; no secret means that it cannot be opened here."""

    secret: SecretStr | None
    has_fallback: bool


OwnKeys = Mapping[str, OwnKey]
"""An account's keys by provider."""

NO_KEYS: Final[OwnKeys] = MappingProxyType({})


_REFUSALS: Final = {
    Failure.CREDENTIALS: (
        Failure.KEY_REFUSED,
        "Provider {provider} refused the account's own key{status}.",
    ),
    Failure.RATE_LIMITED: (
        Failure.KEY_LIMITED,
        "Provider {provider} limits the rate of the account's own key{status}.",
    ),
}
"""What says something about the account's key, and nothing about the deployment."""


def own_key(keys: OwnKeys, deployment: Deployment) -> OwnKey | None:
    """Return the account's key for a deployment, if it has one and the provider takes one."""
    return keys.get(deployment.provider) if deployment.kind in KEYED_KINDS else None


class OwnTries:
    """Yields who is tried, in order; `key` is the account's for the deployment yielded last.

    `tries_max` bounds them for each model; `read` gives the account's keys as they are then.
    """

    def __init__(
        self,
        tries: Iterator[Try],
        keys: OwnKeys,
        *,
        tries_max: int,
        read: Callable[[], Awaitable[OwnKeys]],
    ) -> None:
        self._tries = tries
        self._keys = keys
        self._tries_max = tries_max
        self._read = read
        self._leg: Leg | None = None
        self._count = 0
        self._current: Try | None = None
        self._again: Try | None = None
        self._refusing: set[str] = set()
        self._is_bound = False
        self.key: OwnKey | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Try:
        """Return who is tried next.

        Raises:
            TurnpikeError: UNAVAILABLE: the account's key cannot be opened.
        """
        found = self._next()
        if found is None:
            raise StopIteration
        current, self.key = found
        self._current = current
        self._count += 1
        if self.key is not None:
            self._is_bound |= not self.key.has_fallback
            if self.key.secret is None:
                raise TurnpikeError(
                    Reason.UNAVAILABLE,
                    f"The account's own key for provider {current.deployment.provider} cannot be"
                    " used now; store it again.",
                )
        return current

    def failed(self, error: ProviderError) -> ProviderError:
        """Take the failure of the deployment yielded last, and return what it means here."""
        key, current = self.key, self._current
        if key is None or current is None or error.failure not in _REFUSALS:
            return error
        provider = current.deployment.provider
        self._refusing.add(provider)
        if key.has_fallback and self._count < self._tries_max:
            self._again = current
        failure, sentence = _REFUSALS[error.failure]
        status = f" (HTTP {error.status})" if error.status else ""
        return ProviderError(
            failure,
            sentence.format(provider=provider, status=status),
            status=error.status,
            retry_after_s=error.retry_after_s,
        )

    async def refresh(self) -> None:
        """Look again which keys the account has: they may have changed since the last try.

        Raises:
            TurnpikeError: UNAVAILABLE.
        """
        self._keys = await self._read()

    def _next(self) -> tuple[Try, OwnKey | None] | None:
        if self._again is not None:
            again, self._again = self._again, None
            return again, None
        for turn in self._tries:
            if turn.leg is not self._leg:
                self._leg, self._count = turn.leg, 0
            key = own_key(self._keys, turn.deployment)
            if key is not None and turn.deployment.provider in self._refusing:
                if not key.has_fallback:
                    continue
                key = None
            if self._count < self._tries_max and (key is not None or not self._is_bound):
                return turn, key
        return None
