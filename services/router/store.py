"""Statements of this room: the keys that accounts bring along, sealed."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from sqlalchemy import delete, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.clock import Clock
from kit.db import Database
from kit.errors import Reason, TurnpikeError
from kit.sealed import Sealed
from services.router.store_tables import METADATA, PROVIDER_KEYS

__all__ = ["METADATA", "KeptKey", "ProviderKeyStore"]

ANSWER_S: Final = 5.0
"""Longest wait for the database, seconds."""

_FAILED: Final = (DBAPIError, PoolTimeoutError, OSError, TimeoutError)
_COLUMNS: Final = PROVIDER_KEYS.c
_PLACE: Final = (_COLUMNS.account_id, _COLUMNS.provider)
_SELECT: Final = select(
    *_PLACE,
    _COLUMNS.key_id,
    _COLUMNS.nonce,
    _COLUMNS.ciphertext,
    _COLUMNS.hint,
    _COLUMNS.has_fallback,
    _COLUMNS.create_unix_ms,
    _COLUMNS.rotate_unix_ms,
).order_by(*_PLACE)


class KeptKey(NamedTuple):
    """A key as it is stored; times are Unix milliseconds."""

    account_id: str
    provider: str
    sealed: Sealed
    hint: str
    has_fallback: bool
    create_unix_ms: int
    rotate_unix_ms: int


class ProviderKeyStore:
    """Keeps sealed keys. Every method raises UNAVAILABLE when the database does not answer."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def put(
        self, account_id: str, provider: str, sealed: Sealed, *, hint: str, has_fallback: bool
    ) -> KeptKey:
        """Store a key, in place of the one before, and return it."""
        now_ms = self._clock.unix_ms()
        new = {
            "key_id": sealed.key_id,
            "nonce": sealed.nonce,
            "ciphertext": sealed.ciphertext,
            "hint": hint,
            "has_fallback": has_fallback,
            "rotate_unix_ms": now_ms,
        }
        place = {"account_id": account_id, "provider": provider}
        insert = sqlite.insert if self._database.is_sqlite else postgresql.insert
        statement = (
            insert(PROVIDER_KEYS)
            .values(**place, **new, create_unix_ms=now_ms)
            .on_conflict_do_update(index_elements=list(place), set_=new)
            .returning(_COLUMNS.create_unix_ms)
        )
        async with self._write() as connection:
            create_ms = (await connection.execute(statement)).scalar_one()
        return KeptKey(account_id, provider, sealed, hint, has_fallback, create_ms, now_ms)

    async def delete(self, account_id: str, provider: str) -> bool:
        """Delete a key and return whether there was one."""
        statement = delete(PROVIDER_KEYS).where(
            _COLUMNS.account_id == account_id, _COLUMNS.provider == provider
        )
        async with self._write() as connection:
            return (await connection.execute(statement)).rowcount > 0

    async def reseal(self, key: KeptKey, sealed: Sealed) -> None:
        """Store the same secret under another seal, unless it was changed meanwhile."""
        statement = (
            update(PROVIDER_KEYS)
            .where(
                _COLUMNS.account_id == key.account_id,
                _COLUMNS.provider == key.provider,
                _COLUMNS.nonce == key.sealed.nonce,
            )
            .values(key_id=sealed.key_id, nonce=sealed.nonce, ciphertext=sealed.ciphertext)
        )
        async with self._write() as connection:
            await connection.execute(statement)

    async def page(
        self, *, after: tuple[str, str] = ("", ""), account_id: str = "", count_max: int
    ) -> Sequence[KeptKey]:
        """Return keys by account and provider, those that follow `after`; no account means all."""
        statement = _SELECT.where(tuple_(*_PLACE) > after).limit(count_max)
        if account_id:
            statement = statement.where(_COLUMNS.account_id == account_id)
        async with _answering(), self._database.read() as connection:
            rows = (await connection.execute(statement)).all()
        return [
            KeptKey(
                row.account_id,
                row.provider,
                Sealed(row.key_id, row.nonce, row.ciphertext),
                row.hint,
                row.has_fallback,
                row.create_unix_ms,
                row.rotate_unix_ms,
            )
            for row in rows
        ]

    @asynccontextmanager
    async def _write(self) -> AsyncIterator[AsyncConnection]:
        async with _answering(), self._database.write() as connection:
            yield connection


@asynccontextmanager
async def _answering() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(ANSWER_S):
            yield
    except _FAILED as error:
        message = "The database of provider keys does not answer; try again."
        raise TurnpikeError(Reason.UNAVAILABLE, message) from error
