"""Access tokens of Google Cloud: fetched when needed, kept, and renewed before they end."""

import asyncio
from pathlib import Path
from typing import Final, Protocol

from kit.clock import Clock
from services.router.providers.google.gcp_assertion import (
    Grant,
    ServiceAccount,
    grant_body,
    read_grant,
    read_service_account,
)
from services.router.providers.openai.exchange import failure_of
from services.router.providers.port import Failure, ProviderError
from services.router.upstream import HttpPool, Target, UpstreamError, build_headers

FETCH_S: Final = 10.0
"""Longest wait for a token, seconds."""

PATIENCE_S: Final = 2.0
"""Longest wait for a new token while the old one is good, seconds."""

RENEW_S: Final = 225.0
"""How long before its end a token is renewed, seconds: the metadata server gives a new one in its
last four minutes only."""

REST_S: Final = 5.0
"""Least time between two fetches, seconds, also after one that failed."""

SPARE_S: Final = 10.0
"""A token that ends within this is not sent any more."""

_ANSWER_BYTES_MAX: Final = 65_536
_METADATA_PATH: Final = (
    "/computeMetadata/v1/instance/service-accounts/default/token"
    "?scopes=https://www.googleapis.com/auth/cloud-platform"
)


class Granter(Protocol):
    """Where tokens come from."""

    async def grant(self, *, deadline_s: float) -> Grant:
        """Return a new token; `deadline_s` is loop time.

        Raises:
            ProviderError: There is none.
        """


class ServiceAccountGranter:
    """Asks with a key file, which is read anew each time, so that it may be exchanged."""

    def __init__(self, path: Path, *, pool: HttpPool, clock: Clock) -> None:
        self._path = path
        self._pool = pool
        self._clock = clock

    async def grant(self, *, deadline_s: float) -> Grant:
        """Return a new token; see `Granter`."""
        account = await asyncio.to_thread(self._account)
        body = grant_body(account, now_unix_s=self._clock.unix_ms() // 1000)
        try:
            target = Target.of(account.token_uri)
        except ValueError:
            raise _no_credentials() from None
        headers = build_headers(
            target,
            {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"},
        )
        return await _fetch(self._pool, "POST", target, headers, body=body, deadline_s=deadline_s)

    def _account(self) -> ServiceAccount:
        try:
            return read_service_account(self._path.read_bytes())
        except (OSError, ValueError):
            raise _no_credentials() from None


class MetadataGranter:
    """Asks the metadata server of the machine that this runs on."""

    def __init__(self, base_url: str, *, pool: HttpPool) -> None:
        self._pool = pool
        self._target = Target.of(base_url, _METADATA_PATH)
        self._headers = build_headers(self._target, {"metadata-flavor": "Google"})

    async def grant(self, *, deadline_s: float) -> Grant:
        """Return a new token; see `Granter`."""
        return await _fetch(self._pool, "GET", self._target, self._headers, deadline_s=deadline_s)


class TokenSource:
    """The current token of one account; one request at a time renews it."""

    def __init__(self, granter: Granter) -> None:
        self._granter = granter
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._token = ""
        self._end_s = 0.0
        self._next_fetch_s = 0.0
        self._failure: ProviderError | None = None

    async def token(self, *, deadline_s: float) -> str:
        """Return a token that holds for a while yet; `deadline_s` is loop time.

        Whoever finds it old renews it; while it lasts the others go on with it, and it outlives a
        renewal that failed.

        Raises:
            ProviderError: CREDENTIALS, TIMEOUT or another: there is none.
        """
        now_s = self._loop.time()
        if now_s < self._next_fetch_s and self._is_usable(now_s):
            return self._token
        if self._turn.locked() and self._is_usable(now_s):
            return self._token
        wait_s = PATIENCE_S if self._is_usable(now_s) else FETCH_S
        until_s = min(deadline_s, now_s + wait_s)
        failure: ProviderError | None = None
        try:
            async with asyncio.timeout_at(until_s), self._turn:
                await self._renew()
        except TimeoutError:
            # Not kept: others may have more time.
            failure = ProviderError(
                Failure.TIMEOUT, "The gateway was given no credentials for the upstream in time."
            )
        if self._is_usable(self._loop.time()):
            return self._token
        raise failure or _again(self._failure or _no_credentials())

    def forget(self) -> None:
        """Drop the token: the upstream does not take it."""
        self._token = ""

    def _is_usable(self, now_s: float) -> bool:
        return bool(self._token) and now_s < self._end_s - SPARE_S

    async def _renew(self) -> None:
        now_s = self._loop.time()
        if now_s < self._next_fetch_s and (self._token or self._failure):
            return
        self._next_fetch_s = now_s + REST_S
        try:
            grant = await self._granter.grant(deadline_s=now_s + FETCH_S)
        except ProviderError as error:
            self._failure = error
            return
        self._failure = None
        self._token = grant.token
        self._end_s = now_s + grant.lifetime_s
        self._next_fetch_s = max(self._end_s - RENEW_S, now_s + REST_S)


def _again(error: ProviderError) -> ProviderError:
    """Return the same failure for another request: one object for all would gather their traces."""
    return ProviderError(
        error.failure, error.message, status=error.status, retry_after_s=error.retry_after_s
    )


async def _fetch(
    pool: HttpPool,
    method: str,
    target: Target,
    headers: bytes,
    *,
    body: bytes = b"",
    deadline_s: float,
) -> Grant:
    loop = asyncio.get_running_loop()
    try:
        connect_s = min(pool.limits.connect_s, deadline_s - loop.time())
        exchange = await pool.request(
            method, target, headers=headers, body=body, connect_s=connect_s
        )
        try:
            head = await exchange.head(deadline_s)
            answer = await exchange.read_all(deadline_s, _ANSWER_BYTES_MAX)
        finally:
            exchange.close()
    except UpstreamError as error:
        raise failure_of(error, is_late=loop.time() >= deadline_s) from error
    if head.status >= 500 or head.status == 429:
        raise ProviderError(
            Failure.UNAVAILABLE,
            "The upstream's accounts are unavailable.",
            status=head.status,
        )
    if head.status != 200:
        raise _no_credentials(head.status)
    try:
        return read_grant(answer)
    except ValueError:
        raise _no_credentials(head.status) from None


def _no_credentials(status: int = 0) -> ProviderError:
    return ProviderError(
        Failure.CREDENTIALS,
        "The gateway was given no credentials for the upstream.",
        status=status,
    )
