"""Noted charges as the sweep sees them: what a concluded request costs stays in its lease.

The usage event that posts it may be late: its router was killed, or the ledger was away. Until
then nobody else may have that money, though the lease has ended.
"""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, bindparam, delete, exists, select

from services.payment.mpp.tables import noted_charges
from services.payment.store_tables import charges, leases

IS_POSTED: Final = exists().where(charges.c.event_id == noted_charges.c.event_id)
WAITING: Final = (
    select(noted_charges.c.charge_nusd)
    .where(noted_charges.c.lease_id == leases.c.lease_id)
    .where(~IS_POSTED)
    .where(leases.c.ends_at_unix_ms >= bindparam("noted_after_ms"))
    .scalar_subquery()
)
"""What a lease keeps for a charge that is on its way; null without one, or when it is too old."""

_GIVE_UP: Final = delete(noted_charges).where(noted_charges.c.lease_id == bindparam("lease"))


def give_up(connection: Connection, lease_ids: Sequence[str]) -> None:
    """Forget charges of leases that were released without them: their events never came."""
    if lease_ids:
        connection.execute(_GIVE_UP, [{"lease": lease_id} for lease_id in lease_ids])
