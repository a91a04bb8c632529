"""What every read and write of this room has in common: a deadline, and what its failure means."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from kit.errors import Reason, TurnpikeError

_FAILED: Final = (DBAPIError, PoolTimeoutError, OSError, TimeoutError)
_DATA_CLASSES: Final = ("22", "23")


@asynccontextmanager
async def answering(wait_s: float) -> AsyncIterator[None]:
    """Bound what the body waits for.

    Raises:
        TurnpikeError: `UNAVAILABLE`: the database does not answer.
    """
    try:
        async with asyncio.timeout(wait_s):
            yield
    except _FAILED as error:
        if _is_of_data(error):
            raise
        message = "The usage database does not answer; try again."
        raise TurnpikeError(Reason.UNAVAILABLE, message) from error


def _is_of_data(error: BaseException) -> bool:
    """Return whether the database refused what it was given; all else passes by itself.

    SQLAlchemy gives most errors of asyncpg no class of their own, but their SQLSTATE.
    """
    state = str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")
    return isinstance(error, (DataError, IntegrityError)) or state.startswith(_DATA_CLASSES)


def first_id(unix_ms: int) -> str:
    """Return where the UUIDv7s of a moment begin."""
    head = f"{max(0, unix_ms):012x}"
    return f"{head[:8]}-{head[8:]}"
