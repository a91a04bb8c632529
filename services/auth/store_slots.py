"""Statements about slots: who holds how many of a key, and who of them lives.

Locks are taken in one order: the key's row, then the holder's. A count is read under the key's
lock, so grants of one key follow one another; rows that go meanwhile only make it too high.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager

from sqlalchemy import delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.db import Database
from kit.errors import Reason, TurnpikeError
from services.auth.slots import HolderStep, Sign, Slots, SlotsAsk, SlotTerms, divide
from services.auth.store import told_when_away
from services.auth.tables import KEYS, SLOT_HOLDERS, SLOTS

Judge = Callable[[Mapping[str, Sign]], list[str]]
"""Takes the newest sign of life of every holder and returns the holders that are dead."""


class SlotStore:
    """Keeps holders and their slots; `lease_ms` is promised with each sign of life."""

    def __init__(self, database: Database, *, lease_ms: int) -> None:
        self._database = database
        self._lease_ms = lease_ms

    async def lease(self, key_id: str, terms: SlotTerms, ask: SlotsAsk) -> Slots | None:
        """Answer an ask and keep the answer, in one transaction; None for an unknown holder.

        An ask that is older than what is kept of its holder changes nothing.

        Raises:
            TurnpikeError: NOT_FOUND; AUTH_UNAVAILABLE.
        """
        async with self._write() as connection:
            await _lock_key(connection, key_id)
            if not await _is_known(connection, ask.holder_id):
                return None
            rows = await connection.execute(select(SLOTS).where(SLOTS.c.key_id == key_id))
            held = {row.holder_id: row for row in rows}
            known = held.pop(ask.holder_id, None)
            others = sum(row.slot_count for row in held.values())
            own = known.slot_count if known is not None else 0
            if known is not None and known.sequence > ask.sequence:
                return Slots(own, max(0, terms.limit - others - own))
            slots = divide(terms, ask, own=own, others=others)
            if terms.limit or own:
                await self._keep(connection, key_id, ask, slots.held if terms.limit else 0)
        return slots

    async def step(self, holder_id: str, step: HolderStep, judge: Judge) -> Sign | None:
        """Note what a holder says; return its newest sign of life, None when it is not known.

        Holders that `judge` finds dead are buried on the way, never this one.

        Raises:
            TurnpikeError: AUTH_UNAVAILABLE.
        """
        async with self._write() as connection:
            signs = await _signs(connection)
            dead = [other for other in judge(signs) if other != holder_id]
            if step is HolderStep.END:
                dead.append(holder_id)
            await _bury(connection, dead)
            if step is HolderStep.END:
                return None
            known = signs.get(holder_id)
            if known is None and step is not HolderStep.BEGIN:
                return None
            sign = Sign(known.beat + 1 if known else 1, self._lease_ms)
            if known is None:
                new = SLOT_HOLDERS.insert().values(holder_id=holder_id, **sign._asdict())
                await connection.execute(new)
            else:
                own = update(SLOT_HOLDERS).where(SLOT_HOLDERS.c.holder_id == holder_id)
                await connection.execute(own.values(**sign._asdict()))
        return sign

    async def bury(self, judge: Judge) -> bool:
        """Free the slots of dead holders; return whether there were any.

        Raises:
            TurnpikeError: AUTH_UNAVAILABLE.
        """
        async with self._write() as connection:
            dead = judge(await _signs(connection))
            await _bury(connection, dead)
        return bool(dead)

    async def _keep(
        self, connection: AsyncConnection, key_id: str, ask: SlotsAsk, slot_count: int
    ) -> None:
        dialect = sqlite if self._database.is_sqlite else postgresql
        kept = {"slot_count": slot_count, "sequence": ask.sequence}
        row = {"key_id": key_id, "holder_id": ask.holder_id, **kept}
        statement = dialect.insert(SLOTS).values(**row)
        await connection.execute(
            statement.on_conflict_do_update(index_elements=["key_id", "holder_id"], set_=kept)
        )

    @asynccontextmanager
    async def _write(self) -> AsyncIterator[AsyncConnection]:
        with told_when_away():
            async with self._database.write() as connection:
                yield connection


async def _lock_key(connection: AsyncConnection, key_id: str) -> None:
    one = select(KEYS.c.key_id).where(KEYS.c.key_id == key_id).with_for_update()
    if (await connection.execute(one)).one_or_none() is None:
        raise TurnpikeError(Reason.NOT_FOUND, "There is no key with this key_id.", param="key_id")


async def _is_known(connection: AsyncConnection, holder_id: str) -> bool:
    """Return whether a holder is there; it stays until the transaction ends."""
    one = select(SLOT_HOLDERS.c.holder_id).where(SLOT_HOLDERS.c.holder_id == holder_id)
    shared = one.with_for_update(read=True)
    return (await connection.execute(shared)).one_or_none() is not None


async def _signs(connection: AsyncConnection) -> dict[str, Sign]:
    every = select(SLOT_HOLDERS).order_by(SLOT_HOLDERS.c.holder_id).with_for_update()
    rows = await connection.execute(every)
    return {row.holder_id: Sign(row.beat, row.lease_ms) for row in rows}


async def _bury(connection: AsyncConnection, holder_ids: Iterable[str]) -> None:
    gone = list(holder_ids)
    if gone:
        await connection.execute(delete(SLOTS).where(SLOTS.c.holder_id.in_(gone)))
        await connection.execute(delete(SLOT_HOLDERS).where(SLOT_HOLDERS.c.holder_id.in_(gone)))
