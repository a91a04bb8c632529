"""Idempotency keys: a payer's own name for a request, under which it is sold once.

What a request answered is not kept, so a repeat is refused and not answered again. A key is free
again when its request ended without a charge.
"""

import json
from typing import Final

from sqlalchemy import Connection, bindparam, delete, exists, select

from kit.errors import Reason, TurnpikeError
from services.payment.mpp.tables import noted_charges
from services.payment.store_answers import remember
from services.payment.store_leases import CLOSED
from services.payment.store_tables import answers, leases

_FIND: Final = select(answers.c.answer).where(answers.c.request_id == bindparam("name"))
_FORGET: Final = delete(answers).where(answers.c.request_id == bindparam("name"))
_IS_FREE: Final = select(leases.c.lease_id).where(
    leases.c.lease_id == bindparam("lease"),
    leases.c.state == CLOSED,
    leases.c.captured_nusd == 0,
    ~exists().where(noted_charges.c.lease_id == leases.c.lease_id, noted_charges.c.charge_nusd > 0),
)


def check(connection: Connection, account_id: str, key: str) -> None:
    """Return if no request of this key runs or was charged.

    Raises:
        TurnpikeError: ALREADY_EXISTS.
    """
    found = connection.execute(_FIND, {"name": _name(account_id, key)}).scalar()
    if found is None:
        return
    lease_id = json.loads(found)["lease_id"]
    if connection.execute(_IS_FREE, {"lease": lease_id}).first() is None:
        raise TurnpikeError(
            Reason.ALREADY_EXISTS,
            "A request with this Idempotency-Key runs or was charged; take a new key.",
            param="Idempotency-Key",
        )


def keep(connection: Connection, account_id: str, key: str, *, lease_id: str, now_ms: int) -> None:
    """Remember which lease a request of this key has."""
    name = _name(account_id, key)
    connection.execute(_FORGET, {"name": name})
    answer = {"lease_id": lease_id}
    remember(connection, name, ["once", account_id, key], answer, now_ms=now_ms)


def _name(account_id: str, key: str) -> str:
    return f"once:{account_id}:{key}"
