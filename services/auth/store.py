"""Statements of this room: accounts, keys, hashes of secrets, rate windows, audit.

Every change and its audit entry are one transaction. Locks are taken in one order: the key's row,
then the head of the audit chain.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, replace
from typing import Any, Final

from sqlalchemy import Row, Table, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.clock import Clock
from kit.db import Database
from kit.errors import Reason, TurnpikeError
from services.auth.accounts import NO_DEFAULTS, Account, RoutingDefaults
from services.auth.audit import Entry, Facts, facts_json
from services.auth.keys import KeptSecret, Key, KeySpec, check_rotatable, retire
from services.auth.limits import Ask, Grant, Limits, Window, grant, window_at
from services.auth.tables import (
    ACCOUNTS,
    AUDIT,
    AUDIT_HEAD,
    KEYS,
    METADATA,
    RATE_WINDOWS,
    SECRETS,
)

__all__ = ["METADATA", "AuthStore", "told_when_away"]

_AWAY: Final = (OperationalError, InterfaceError, PoolTimeoutError, OSError)


class AuthStore:
    """Keeps what auth knows. `new_id` makes a growing UUID from Unix milliseconds."""

    def __init__(self, database: Database, *, clock: Clock, new_id: Callable[[int], str]) -> None:
        self._database = database
        self._clock = clock
        self._new_id = new_id

    async def create_account(
        self, *, name: str, request_id: str | None, defaults: RoutingDefaults = NO_DEFAULTS
    ) -> Account:
        """Create an account, or return the one that `request_id` created before."""
        now = self._clock.unix_ms()
        account = Account(self._new_id(now), name, now, defaults)
        routing = {
            "routing_strategy": defaults.strategy,
            "is_external_allowed": defaults.is_external_allowed,
        }
        values = {
            "account_id": account.account_id,
            "name": name,
            "create_unix_ms": now,
            "request_id": request_id,
            **routing,
        }
        async with self._write() as connection:
            if await self._insert_new(connection, ACCOUNTS, values):
                after = {"name": name, **routing} if defaults != NO_DEFAULTS else {"name": name}
                await self._audit(connection, "account.create", account.account_id, after=after)
                return account
            repeated = select(ACCOUNTS).where(ACCOUNTS.c.request_id == request_id)
            return _account((await connection.execute(repeated)).one())

    async def get_account(self, account_id: str) -> Account:
        """Return an account.

        Raises:
            TurnpikeError: NOT_FOUND.
        """
        async with self._read() as connection:
            return await _find_account(connection, account_id)

    async def list_accounts(self, *, after: str, count_max: int) -> list[Account]:
        """Return accounts by age, those that follow the id `after`; empty is the beginning."""
        page = select(ACCOUNTS).where(ACCOUNTS.c.account_id > after)
        page = page.order_by(ACCOUNTS.c.account_id).limit(count_max)
        async with self._read() as connection:
            return [_account(row) for row in await connection.execute(page)]

    async def create_key(
        self, spec: KeySpec, *, secret_hash: bytes, hint: str, request_id: str | None
    ) -> Key:
        """Create a key with its first secret.

        Raises:
            TurnpikeError: NOT_FOUND for the account; ALREADY_EXISTS when `request_id` was used.
        """
        now = self._clock.unix_ms()
        key = Key(self._new_id(now), spec, hint, now)
        values = {
            **asdict(spec),
            "key_id": key.key_id,
            "hint": hint,
            "request_id": request_id,
            "create_unix_ms": now,
            "revoke_unix_ms": None,
        }
        async with self._write() as connection:
            await _find_account(connection, spec.account_id)
            if not await self._insert_new(connection, KEYS, values):
                message = "This request_id created a key before; its secret is not shown again."
                raise TurnpikeError(Reason.ALREADY_EXISTS, message, param="request_id")
            await _insert_secret(connection, key.key_id, KeptSecret(secret_hash, 1), now)
            after = {**asdict(spec), "hint": hint}
            await self._audit(connection, "key.create", key.key_id, after=after)
        return key

    async def get_key(self, key_id: str) -> Key:
        """Return a key, whatever its state.

        Raises:
            TurnpikeError: NOT_FOUND.
        """
        async with self._read() as connection:
            return await _find_key(connection, key_id)

    async def list_keys(self, *, account_id: str, after: str, count_max: int) -> list[Key]:
        """Return keys by age, those that follow the id `after`; an empty account means all."""
        page = select(KEYS).where(KEYS.c.key_id > after)
        if account_id:
            page = page.where(KEYS.c.account_id == account_id)
        async with self._read() as connection:
            rows = await connection.execute(page.order_by(KEYS.c.key_id).limit(count_max))
            return [_key(row) for row in rows]

    async def find_secret(self, secret_hash: bytes) -> tuple[Key, KeptSecret] | None:
        """Return the key that a secret's hash belongs to, whatever its state; None when unknown."""
        found = (
            select(
                KEYS,
                SECRETS.c.generation,
                SECRETS.c.expire_unix_ms.label("secret_expire_unix_ms"),
                ACCOUNTS.c.routing_strategy.label("account_strategy"),
                ACCOUNTS.c.is_external_allowed.label("is_account_external"),
            )
            .join(SECRETS, SECRETS.c.key_id == KEYS.c.key_id)
            .join(ACCOUNTS, ACCOUNTS.c.account_id == KEYS.c.account_id)
            .where(SECRETS.c.secret_hash == secret_hash)
        )
        async with self._read() as connection:
            row = (await connection.execute(found)).one_or_none()
        if row is None:
            return None
        defaults = RoutingDefaults(row.account_strategy, row.is_account_external)
        key = replace(_key(row), defaults=defaults)
        return key, KeptSecret(secret_hash, row.generation, row.secret_expire_unix_ms)

    async def revoke_key(self, key_id: str) -> Key:
        """Revoke a key for ever; a repeat changes nothing.

        Raises:
            TurnpikeError: NOT_FOUND.
        """
        async with self._write() as connection:
            key = await _find_key(connection, key_id, is_locking=True)
            if key.is_revoked:
                return key
            now = self._clock.unix_ms()
            change = {"revoke_unix_ms": now}
            await connection.execute(KEYS.update().where(KEYS.c.key_id == key_id).values(change))
            before = {"revoke_unix_ms": None}
            await self._audit(connection, "key.revoke", key_id, before=before, after=change)
            return await _find_key(connection, key_id)

    async def rotate_key(
        self, key_id: str, *, secret_hash: bytes, hint: str, overlap_ms: int
    ) -> Key:
        """Add a secret to a key and let the one before it run out.

        Raises:
            TurnpikeError: NOT_FOUND; UNPROCESSABLE when the key is revoked or expired.
        """
        async with self._write() as connection:
            key = await _find_key(connection, key_id, is_locking=True)
            now = self._clock.unix_ms()
            check_rotatable(key, now)
            own = select(SECRETS).where(SECRETS.c.key_id == key_id)
            secrets = [
                KeptSecret(row.secret_hash, row.generation, row.expire_unix_ms)
                for row in await connection.execute(own)
            ]
            for retired in retire(secrets, now, overlap_ms):
                one = SECRETS.update().where(SECRETS.c.secret_hash == retired.secret_hash)
                await connection.execute(one.values(expire_unix_ms=retired.expire_unix_ms))
            newest = KeptSecret(secret_hash, 1 + max(secret.generation for secret in secrets))
            await _insert_secret(connection, key_id, newest, now)
            renamed = KEYS.update().where(KEYS.c.key_id == key_id).values(hint=hint)
            await connection.execute(renamed)
            after = {"hint": hint, "overlap_ms": overlap_ms}
            before = {"hint": key.hint}
            await self._audit(connection, "key.rotate", key_id, before=before, after=after)
            return await _find_key(connection, key_id)

    async def grant_rate(
        self, key_id: str, limits: Limits, ask: Ask, *, replicas: int
    ) -> tuple[Grant, Window]:
        """Answer an ask out of the key's window and keep what was granted, in one transaction."""
        row_of_key = RATE_WINDOWS.c.key_id == key_id
        locked = select(RATE_WINDOWS).where(row_of_key).with_for_update()
        async with self._write() as connection:
            row = (await connection.execute(locked)).one_or_none()
            if row is None:
                empty = {"key_id": key_id, **_counts(Window(0))}
                await self._insert_new(connection, RATE_WINDOWS, empty)
                row = (await connection.execute(locked)).one()
            known = Window(row.minute, row.request_count, row.token_count)
            window = window_at(known, self._clock.unix_ms())
            answer, after = grant(window, limits, ask, replicas=replicas)
            if answer.is_granted:
                kept = RATE_WINDOWS.update().where(row_of_key).values(_counts(after))
                await connection.execute(kept)
        return answer, after

    async def list_audit(self, *, after_seq: int, count_max: int) -> list[Entry]:
        """Return audit entries in order, those that follow `after_seq`; 0 is the beginning."""
        page = select(AUDIT).where(AUDIT.c.seq > after_seq)
        async with self._read() as connection:
            rows = await connection.execute(page.order_by(AUDIT.c.seq).limit(count_max))
            return [Entry(**row._asdict()) for row in rows]

    @asynccontextmanager
    async def _write(self) -> AsyncIterator[AsyncConnection]:
        with told_when_away():
            async with self._database.write() as connection:
                yield connection

    @asynccontextmanager
    async def _read(self) -> AsyncIterator[AsyncConnection]:
        with told_when_away():
            async with self._database.read() as connection:
                yield connection

    async def _insert_new(
        self, connection: AsyncConnection, table: Table, values: Mapping[str, object]
    ) -> bool:
        """Insert a row unless a unique column says that it is there; return whether it was new."""
        dialect = sqlite if self._database.is_sqlite else postgresql
        statement = dialect.insert(table).values(**values).on_conflict_do_nothing()
        return (await connection.execute(statement)).rowcount == 1

    async def _audit(
        self,
        connection: AsyncConnection,
        action: str,
        subject_id: str,
        *,
        before: Facts | None = None,
        after: Facts,
    ) -> None:
        head = (await connection.execute(select(AUDIT_HEAD).with_for_update())).one()
        entry = Entry(
            seq=head.seq + 1,
            action=action,
            subject_id=subject_id,
            unix_ms=self._clock.unix_ms(),
            before=facts_json(before),
            after=facts_json(after),
            previous_hash=head.entry_hash,
        )
        await connection.execute(AUDIT.insert().values(**asdict(entry)))
        moved = AUDIT_HEAD.update().values(seq=entry.seq, entry_hash=entry.entry_hash)
        await connection.execute(moved)


@contextmanager
def told_when_away() -> Iterator[None]:
    """Turn failures of the database into AUTH_UNAVAILABLE."""
    try:
        yield
    except _AWAY as error:
        message = "The database of accounts and keys did not answer; try again."
        raise TurnpikeError(Reason.AUTH_UNAVAILABLE, message) from error


async def _find_account(connection: AsyncConnection, account_id: str) -> Account:
    one = select(ACCOUNTS).where(ACCOUNTS.c.account_id == account_id)
    row = (await connection.execute(one)).one_or_none()
    if row is None:
        message = "There is no account with this account_id."
        raise TurnpikeError(Reason.NOT_FOUND, message, param="account_id")
    return _account(row)


async def _find_key(connection: AsyncConnection, key_id: str, *, is_locking: bool = False) -> Key:
    one = select(KEYS).where(KEYS.c.key_id == key_id)
    row = (await connection.execute(one.with_for_update() if is_locking else one)).one_or_none()
    if row is None:
        raise TurnpikeError(Reason.NOT_FOUND, "There is no key with this key_id.", param="key_id")
    return _key(row)


async def _insert_secret(
    connection: AsyncConnection, key_id: str, secret: KeptSecret, now_unix_ms: int
) -> None:
    values = {**asdict(secret), "key_id": key_id, "create_unix_ms": now_unix_ms}
    await connection.execute(SECRETS.insert().values(**values))


def _account(row: Row[Any]) -> Account:
    defaults = RoutingDefaults(row.routing_strategy, row.is_external_allowed)
    return Account(row.account_id, row.name, row.create_unix_ms, defaults)


def _key(row: Row[Any]) -> Key:
    spec = KeySpec(
        account_id=row.account_id,
        name=row.name,
        scopes=tuple(row.scopes),
        models=tuple(row.models),
        tier=row.tier,
        dialect=row.dialect,
        expire_unix_ms=row.expire_unix_ms,
        requests_per_minute=row.requests_per_minute,
        tokens_per_minute=row.tokens_per_minute,
        concurrent_requests=row.concurrent_requests,
        is_strict=row.is_strict,
        routing_strategy=row.routing_strategy,
        is_external_allowed=row.is_external_allowed,
    )
    return Key(row.key_id, spec, row.hint, row.create_unix_ms, row.revoke_unix_ms)


def _counts(window: Window) -> dict[str, int]:
    return {
        "minute": window.minute,
        "request_count": window.requests,
        "token_count": window.tokens,
    }
