"""What charges beside leases mean to caps: those that come late, and refunds."""

from collections import defaultdict
from typing import Final

from sqlalchemy import Connection, bindparam, select, update

from kit.db_statements import Statement
from services.payment.batch import Claim
from services.payment.caps.store_use import Change, add, count, look
from services.payment.caps.windows import Spender
from services.payment.store_tables import leases

_LEASE: Final = Statement(
    select(leases.c.key_id, leases.c.episode_id, leases.c.granted_at_unix_ms).where(
        leases.c.lease_id == bindparam("lease")
    ),
    "lease",
)
_ADJUST: Final = Statement(
    update(leases)
    .where(leases.c.lease_id == bindparam("lease"))
    .values(adjusted_nusd=leases.c.adjusted_nusd + bindparam("by")),
    "by",
    "lease",
)


class LateUse:
    """The caps as one batch of usage events meets them.

    A late charge counts as it is taken, so that the next of the same batch finds less room;
    `flush` writes what leases were adjusted by.
    """

    def __init__(self, connection: Connection, *, now_ms: int) -> None:
        self._connection = connection
        self._now_ms = now_ms
        self._adjusted: defaultdict[str, int] = defaultdict(int)

    def take(self, claim: Claim, amount_nusd: int, *, is_of_lease: bool) -> int:
        """Return how much of a late charge the caps leave room for, and count it."""
        connection = self._connection
        spender, moment = Spender(claim.account_id, claim.key_id), self._now_ms
        if is_of_lease:
            spender, moment = self._lease(claim)
        room = look(connection, spender, at_unix_ms=moment, is_new=not is_of_lease)
        if (tightest := room.tightest) is not None:
            amount_nusd = min(amount_nusd, tightest.left_nusd)
        if is_of_lease:
            self._adjust(claim.lease_id, spender, moment, amount_nusd)
        else:
            add(connection, room, amount_nusd, now_ms=self._now_ms, is_folded=True)
        return amount_nusd

    def give_back(self, claim: Claim, amount_nusd: int) -> None:
        """Take a refund off what the claim's lease used."""
        spender, moment = self._lease(claim)
        self._adjust(claim.lease_id, spender, moment, -amount_nusd)

    def flush(self) -> None:
        """Write what leases were adjusted by."""
        rows = [(change, lease_id) for lease_id, change in self._adjusted.items() if change]
        _ADJUST.run_all(self._connection, rows)

    def _adjust(self, lease_id: str, spender: Spender, moment: int, change_nusd: int) -> None:
        self._adjusted[lease_id] += change_nusd
        count(self._connection, [Change(spender, moment, change_nusd)])

    def _lease(self, claim: Claim) -> tuple[Spender, int]:
        ((key_id, episode_id, granted_at),) = _LEASE.rows(self._connection, claim.lease_id)
        return Spender(claim.account_id, key_id, episode_id), int(granted_at)
