"""Where the keys that sign come from: the file, or a service of AWS that lends them for a while."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from kit.clock import Clock
from services.router.providers.aws.identity import (
    Lent,
    none_lent,
    read_assumed_role,
    read_metadata,
    role_request,
)
from services.router.providers.aws.sign import Credentials
from services.router.providers.port import Failure, ProviderError
from services.router.upstream import HttpPool, Target, UpstreamError, build_headers

RENEW_BEFORE_S: Final = 300.0
"""How long before their end keys are asked for anew, seconds."""

RETRY_S: Final = 10.0
"""How long a lender that failed is left alone while the old keys are good, seconds."""

ASK_S: Final = 5.0
"""How long all answers together may take, seconds."""

ANSWER_BYTES_MAX: Final = 65_536
_TOKEN_PATH: Final = "/latest/api/token"  # noqa: S105 - a path
_ROLES_PATH: Final = "/latest/meta-data/iam/security-credentials/"
_TOKEN_S: Final = "21600"  # noqa: S105 - its lifetime


class Keys(Protocol):
    """Has the keys that sign now."""

    async def current(self, deadline_s: float) -> Credentials:
        """Return them, by a loop time.

        Raises:
            ProviderError: CREDENTIALS or TIMEOUT: there are none.
        """


class FixedKeys:
    """Keys that stay the same."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def current(self, deadline_s: float) -> Credentials:
        """Return them; see `Keys`."""
        del deadline_s
        if not self._credentials.secret_access_key.get_secret_value():
            raise ProviderError(Failure.CREDENTIALS, "There are no keys for the upstream.")
        return self._credentials


class Lender(Protocol):
    """Gets keys that end."""

    async def lend(self, until_s: float) -> Lent:
        """Return new ones, by a loop time.

        Raises:
            ProviderError: CREDENTIALS: there are none.
            UpstreamError: Nobody answers.
        """


class LentKeys:
    """Keys that are asked for anew before they end; many requests ask once.

    While the old ones are good nobody waits for a lender that is being asked, and one that failed
    is left alone for `RETRY_S`.
    """

    def __init__(self, lender: Lender, *, clock: Clock) -> None:
        self._lender = lender
        self._clock = clock
        self._lent: Lent | None = None
        self._rests_until_s = 0.0
        self._lock = asyncio.Lock()

    async def current(self, deadline_s: float) -> Credentials:
        """Return them; see `Keys`."""
        lent = self._lent
        if lent is not None and (left_s := self._left_s(lent)) > 0:
            is_resting = self._lock.locked() or self._clock.monotonic_s() < self._rests_until_s
            if left_s > RENEW_BEFORE_S or is_resting:
                return lent.credentials
        loop = asyncio.get_running_loop()
        until_s = min(deadline_s, loop.time() + ASK_S)
        try:
            async with asyncio.timeout_at(until_s), self._lock:
                lent = self._lent
                if lent is None or self._left_s(lent) <= RENEW_BEFORE_S:
                    lent = self._lent = await self._lender.lend(until_s)
        except (TimeoutError, UpstreamError, ProviderError, OSError) as error:
            lent = self._lent
            self._rests_until_s = self._clock.monotonic_s() + RETRY_S
            if lent is None or self._left_s(lent) <= 0:
                raise none_lent() from error
        return lent.credentials

    def _left_s(self, lent: Lent) -> float:
        return lent.end_unix_s - self._clock.unix_ms() / 1000


class ContainerLender:
    """The agent beside a container, of ECS or of EKS pod identity; `token_file` may be empty."""

    def __init__(self, url: str, token_file: str, *, pool: HttpPool) -> None:
        self._target = Target.of(url)
        self._token_file = token_file
        self._pool = pool

    async def lend(self, until_s: float) -> Lent:
        """Return new keys; see `Lender`."""
        fields = {"accept": "application/json"}
        if self._token_file:
            fields["authorization"] = await _token(self._token_file)
        return read_metadata(await _asked(self._pool, "GET", self._target, fields, until_s))


class InstanceLender:
    """The metadata service of an instance, version 2."""

    def __init__(self, url: str, *, pool: HttpPool) -> None:
        self._url = url
        self._pool = pool

    async def lend(self, until_s: float) -> Lent:
        """Return new keys; see `Lender`."""
        ttl = {"x-aws-ec2-metadata-token-ttl-seconds": _TOKEN_S}
        token = await self._ask("PUT", _TOKEN_PATH, ttl, until_s)
        shown = {"x-aws-ec2-metadata-token": token}
        roles = await self._ask("GET", _ROLES_PATH, shown, until_s)
        role = roles.partition("\n")[0].strip()
        if not role:
            raise none_lent()
        return read_metadata((await self._ask("GET", _ROLES_PATH + role, shown, until_s)).encode())

    async def _ask(self, method: str, path: str, fields: Mapping[str, str], until_s: float) -> str:
        try:
            target = Target.of(self._url, path)
            return (await _asked(self._pool, method, target, fields, until_s)).decode("latin-1")
        except ValueError:
            raise none_lent() from None


class WebIdentityLender:
    """STS, which lends the keys of a role for a token in a file, as in EKS."""

    def __init__(self, url: str, role_arn: str, token_file: str, *, pool: HttpPool) -> None:
        self._target = Target.of(url, "/")
        self._role_arn = role_arn
        self._token_file = token_file
        self._pool = pool

    async def lend(self, until_s: float) -> Lent:
        """Return new keys; see `Lender`."""
        form = role_request(self._role_arn, await _token(self._token_file))
        fields = {"content-type": "application/x-www-form-urlencoded", "accept": "text/xml"}
        body = await _asked(self._pool, "POST", self._target, fields, until_s, form)
        return read_assumed_role(body)


async def _token(path: str) -> str:
    """Return what is in a file now: such tokens are renewed in place."""
    return (await asyncio.to_thread(Path(path).read_text)).strip()


async def _asked(
    pool: HttpPool,
    method: str,
    target: Target,
    fields: Mapping[str, str],
    until_s: float,
    body: bytes = b"",
) -> bytes:
    try:
        headers = build_headers(target, {"user-agent": "turnpike", **fields})
    except ValueError:
        raise none_lent() from None
    exchange = await pool.request(method, target, headers=headers, body=body)
    try:
        head = await exchange.head(until_s)
        answer = await exchange.read_all(until_s, ANSWER_BYTES_MAX)
    finally:
        exchange.close()
    if head.status != 200:
        raise none_lent()
    return answer
