"""The keys that accounts bring along for providers, as requests find them: in memory.

All of them are read at the start and again from time to time. A change is pushed to every router,
which then forgets the account and reads it before its next request. Who has no key costs one look,
and nothing where nobody has one.
"""

import asyncio
import math
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import structlog
from google.protobuf.message import DecodeError
from pydantic import SecretStr

from kit.bus.port import Bus
from kit.clock import Clock
from kit.errors import Reason, TurnpikeError
from kit.sealed import SealError
from services.router.own_tries import NO_KEYS, OwnKey, OwnKeys
from services.router.sealed import SealingRing
from services.router.settings import KEYS_SUBJECT, RouterSettings
from services.router.store import KeptKey, ProviderKeyStore
from turnpike.events.v1 import events_pb2

PAGE_MAX: Final = 500
"""Keys that are read and opened at once, so that requests are not kept waiting."""

HINT_CHARS: Final = 4
HINTED_CHARS_MIN: Final = 16
"""A shorter secret has no hint: it would give too much of it away."""

_log = structlog.get_logger("router.own_keys")


class _Remembered(NamedTuple):
    keys: OwnKeys
    until_s: float


_FORGOTTEN: Final = _Remembered(NO_KEYS, -math.inf)


class OwnKeyRing:
    """Keys by account."""

    def __init__(
        self,
        store: ProviderKeyStore,
        ring: SealingRing,
        *,
        bus: Bus,
        settings: RouterSettings,
        clock: Clock,
    ) -> None:
        self._store = store
        self._ring = ring
        self._bus = bus
        self._settings = settings
        self._accounts: dict[str, _Remembered] = {}
        self._whole_until_s = -math.inf
        self._change_count = 0
        self._is_used = False
        self._now_s = clock.monotonic_s

    def known(self, account_id: str) -> OwnKeys | None:
        """Return an account's keys as far as memory knows them; None: they have to be read."""
        if not self._is_used:
            return NO_KEYS
        found = self._accounts.get(account_id)
        if found is None:
            return NO_KEYS if self._now_s() < self._whole_until_s else None
        return found.keys if self._now_s() < found.until_s else None

    async def read(self, account_id: str) -> OwnKeys:
        """Return an account's keys as they are stored now, and remember them.

        Raises:
            TurnpikeError: UNAVAILABLE: nobody can tell whose key the request has to go with.
        """
        while True:
            change_count = self._change_count
            rows = await self._store.page(account_id=account_id, count_max=PAGE_MAX)
            if change_count == self._change_count:
                break
        keys = self._opened(rows)
        until_s = self._now_s() + self._settings.byok_refresh_s
        self._remember(account_id, _Remembered(keys, until_s))
        return keys

    async def load(self) -> None:
        """Read every key for the first time, and seal anew what another master key sealed.

        Raises:
            TurnpikeError: UNAVAILABLE.
        """
        await self._reload(is_first=True)

    async def refresh(self) -> None:
        """Read every key again from time to time, for ever: a push may be lost."""
        while True:
            await asyncio.sleep(self._settings.byok_refresh_s)
            try:
                await self._reload()
            except TurnpikeError as error:
                _log.warning("provider_keys_not_read", why=error.message)

    async def listen(self) -> None:
        """Forget, for ever, the accounts whose keys change anywhere."""
        async with self._bus.subscribe(KEYS_SUBJECT) as messages:
            async for data in messages:
                try:
                    change = events_pb2.ProviderKeyChanged.FromString(data)
                except DecodeError:
                    continue
                self._forget(change.account_id)

    async def put(
        self, account_id: str, provider: str, secret: SecretStr, *, has_fallback: bool
    ) -> KeptKey:
        """Store a key and tell every router; from then on no request is begun with an older one.

        Raises:
            TurnpikeError: UNPROCESSABLE: there is no master key; UNAVAILABLE.
        """
        if self._ring.is_empty:
            message = "This router has no master key to seal with; set router.byok_keys."
            raise TurnpikeError(Reason.UNPROCESSABLE, message)
        sealed = self._ring.seal(secret, account_id=account_id, provider=provider)
        plain = secret.get_secret_value()
        hint = plain[-HINT_CHARS:] if len(plain) >= HINTED_CHARS_MIN else ""
        kept = await self._store.put(
            account_id, provider, sealed, hint=hint, has_fallback=has_fallback
        )
        await self._tell(account_id)
        _log.info("provider_key_stored", account_id=account_id, provider=provider)
        return kept

    async def delete(self, account_id: str, provider: str) -> bool:
        """Delete a key, tell every router, and return whether there was one.

        Raises:
            TurnpikeError: UNAVAILABLE.
        """
        was_there = await self._store.delete(account_id, provider)
        await self._tell(account_id)
        _log.info("provider_key_deleted", account_id=account_id, provider=provider)
        return was_there

    async def _tell(self, account_id: str) -> None:
        self._forget(account_id)
        change = events_pb2.ProviderKeyChanged(account_id=account_id)
        await self._bus.publish(KEYS_SUBJECT, change.SerializeToString())

    def _forget(self, account_id: str) -> None:
        self._change_count += 1
        self._is_used = True
        self._remember(account_id, _FORGOTTEN)

    def _remember(self, account_id: str, found: _Remembered) -> None:
        if account_id not in self._accounts and len(self._accounts) >= self._settings.byok_keys_max:
            # Who is not remembered is no longer known to have no key.
            self._whole_until_s = -math.inf
            del self._accounts[next(iter(self._accounts))]
        self._accounts[account_id] = found

    async def _reload(self, *, is_first: bool = False) -> None:
        while True:
            change_count, rows = self._change_count, await self._rows(is_first=is_first)
            if change_count == self._change_count:
                break
        if rows is None:
            self._is_used, self._whole_until_s = True, -math.inf
            _log.warning("provider_keys_do_not_fit", byok_keys_max=self._settings.byok_keys_max)
            return
        until_s = self._now_s() + self._settings.byok_stale_max_s
        self._accounts = {name: _Remembered(keys, until_s) for name, keys in rows.items()}
        self._whole_until_s = until_s
        self._is_used = bool(rows)

    async def _rows(self, *, is_first: bool) -> Mapping[str, OwnKeys] | None:
        """Return every key by account; None when there are more than memory is meant to hold."""
        found: dict[str, dict[str, OwnKey]] = {}
        after, count = ("", ""), 0
        while True:
            page = await self._store.page(after=after, count_max=PAGE_MAX)
            count += len(page)
            if count > self._settings.byok_keys_max:
                return None
            for row, key in zip(page, self._opened_each(page), strict=True):
                found.setdefault(row.account_id, {})[row.provider] = key
                if is_first and key.secret is not None:
                    await self._resealed(row, key.secret)
            if len(page) < PAGE_MAX:
                return found
            after = page[-1].account_id, page[-1].provider

    async def _resealed(self, row: KeptKey, secret: SecretStr) -> None:
        if row.sealed.key_id != self._ring.current:
            sealed = self._ring.seal(secret, account_id=row.account_id, provider=row.provider)
            await self._store.reseal(row, sealed)
            _log.info("provider_key_resealed", account_id=row.account_id, provider=row.provider)

    def _opened(self, rows: Iterable[KeptKey]) -> OwnKeys:
        rows = list(rows)
        keys = self._opened_each(rows)
        return {row.provider: key for row, key in zip(rows, keys, strict=True)} or NO_KEYS

    def _opened_each(self, rows: Iterable[KeptKey]) -> list[OwnKey]:
        return [OwnKey(self._secret(row), row.has_fallback) for row in rows]

    def _secret(self, row: KeptKey) -> SecretStr | None:
        try:
            return self._ring.open(row.sealed, account_id=row.account_id, provider=row.provider)
        except SealError as error:
            _log.error(
                "provider_key_not_opened",
                account_id=row.account_id,
                provider=row.provider,
                sealing_key_id=row.sealed.key_id,
                why=str(error),
            )
            return None
