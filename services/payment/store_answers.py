"""Answers to repeatable requests: a repeat with the same id gets the first answer."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, select

from kit.errors import Reason, TurnpikeError
from services.payment.store_tables import answers

_FIND: Final = select(answers.c.asked, answers.c.answer).where(
    answers.c.request_id == bindparam("request_id")
)
_FORGET: Final = delete(answers).where(
    answers.c.is_kept == 0, answers.c.unix_ms < bindparam("before_ms")
)


def ask(connection: Connection, request_id: str, asked: Sequence[object]) -> dict[str, Any] | None:
    """Return the answer given before, None for a new request.

    Raises:
        TurnpikeError: ALREADY_EXISTS, the id was used to ask for something else.
    """
    row = connection.execute(_FIND, {"request_id": request_id}).one_or_none()
    if row is None:
        return None
    if row.asked != json.dumps(asked):
        raise TurnpikeError(
            Reason.ALREADY_EXISTS,
            "request_id was used for another request; take a new one.",
            param="request_id",
        )
    found: dict[str, Any] = json.loads(row.answer)
    return found


def remember(
    connection: Connection,
    request_id: str,
    asked: Sequence[object],
    answer: Mapping[str, object],
    *,
    now_ms: int,
    is_kept: bool = False,
) -> None:
    """Store an answer; one that is kept is never forgotten."""
    row = {
        "request_id": request_id,
        "asked": json.dumps(asked),
        "answer": json.dumps(answer),
        "unix_ms": now_ms,
        "is_kept": int(is_kept),
    }
    connection.execute(answers.insert(), row)


def forget(connection: Connection, *, before_ms: int) -> None:
    """Drop answers older than a moment, but for those that are kept."""
    connection.execute(_FORGET, {"before_ms": before_ms})
