"""What is to be done on chain now: the statements of one round."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from sqlalchemy import Connection, bindparam, exists, select

from services.payment.mpp.channels import Channel, spent
from services.payment.mpp.postings import NUSD_PER_BASE_UNIT, account_of, subject_of
from services.payment.mpp.settings import MppSettings
from services.payment.mpp.states import ChannelState
from services.payment.mpp.store_chain import PENDING, PREPARED, Intent
from services.payment.mpp.store_channels import channel_of, spent_nusd
from services.payment.mpp.tables import chain_cursors, chain_intents, channels, used_transfers
from services.payment.store_tables import balances, leases

CURSOR: Final = "closes_requested"
_ADDRESS_CHARS: Final = 42
_LIVE: Final = (ChannelState.OPEN.value, ChannelState.PAYER_CLOSING.value)
_CHANNELS: Final = select(channels).order_by(channels.c.used_unix_ms, channels.c.channel_id)
_INTENTS: Final = (
    select(chain_intents)
    .where(chain_intents.c.state == PREPARED, chain_intents.c.unix_ms < bindparam("before_ms"))
    .order_by(chain_intents.c.unix_ms)
)
_TRANSFERS: Final = (
    select(used_transfers.c.tx_hash)
    .where(used_transfers.c.state == PENDING, used_transfers.c.unix_ms < bindparam("before_ms"))
    .order_by(used_transfers.c.unix_ms)
)
_PURSES: Final = (
    select(balances.c.ledger_account, balances.c.balance_nusd)
    .where(balances.c.ledger_account.like("customer:tempo:0x%:available"))
    .where(balances.c.balance_nusd >= bindparam("least"))
    .order_by(balances.c.ledger_account)
)
_IS_BOUND: Final = select(
    exists().where(leases.c.account_id == bindparam("account"), leases.c.state == "open")
)
_HAS_PAID: Final = select(
    exists().where(
        used_transfers.c.payer == bindparam("payer"),
        used_transfers.c.unix_ms >= bindparam("paid_before_ms"),
    )
)
_CURSOR: Final = select(chain_cursors.c.next_block).where(chain_cursors.c.name == CURSOR)


@dataclass(frozen=True, slots=True)
class Due:
    """From when on things are due; Unix milliseconds and base units."""

    now_ms: int
    resumed_before_ms: int
    settled_before_ms: int
    used_before_ms: int
    settle_base_units: int
    refund_min_base_units: int
    paid_before_ms: int
    rows_max: int

    @classmethod
    def at(cls, settings: MppSettings, now_ms: int) -> "Due":
        """Return what is due at a moment."""
        return cls(
            now_ms=now_ms,
            resumed_before_ms=now_ms - round(2_000 * settings.chain.receipt_s),
            settled_before_ms=now_ms - round(1_000 * settings.settle_s),
            used_before_ms=now_ms - round(1_000 * settings.idle_close_s),
            settle_base_units=settings.settle_base_units,
            refund_min_base_units=settings.refund_min_base_units,
            paid_before_ms=now_ms - round(1_000 * settings.refund_after_s),
            rows_max=settings.tick_max,
        )


class Purse(NamedTuple):
    """What a payer's charges left over; base units."""

    payer: str
    amount: int


@dataclass(frozen=True, slots=True)
class Work:
    """What one round has to do; each list is bounded."""

    cursor: int | None
    intents: list[Intent]
    transfers: list[str]
    openings: list[Channel]
    to_settle: list[Channel]
    to_close: list[Channel]
    payer_closing: list[Channel]
    purses: list[Purse]


def work(connection: Connection, due: Due) -> Work:
    """Return what is due."""
    resumed = {"before_ms": due.resumed_before_ms}
    live = _in_states(connection, _LIVE, due.rows_max)
    idle = [channel for channel in live if channel.used_unix_ms < due.used_before_ms]
    closing = _in_states(connection, (ChannelState.CLOSING.value,), due.rows_max)
    openings = _in_states(connection, (ChannelState.OPENING.value,), due.rows_max)
    return Work(
        cursor=connection.execute(_CURSOR).scalar(),
        intents=[
            Intent(
                tx_hash=row["tx_hash"],
                kind=row["kind"],
                subject=row["subject"],
                raw=row["raw"],
                cumulative=row["cumulative"],
                amount=row["amount"],
            )
            for row in connection.execute(_INTENTS.limit(due.rows_max), resumed).mappings()
        ],
        transfers=list(connection.execute(_TRANSFERS.limit(due.rows_max), resumed).scalars()),
        openings=[each for each in openings if each.used_unix_ms < due.resumed_before_ms],
        to_settle=[each for each in live if _owes(connection, each, due)],
        to_close=[
            *idle,
            *(each for each in closing if each.used_unix_ms < due.resumed_before_ms),
        ],
        payer_closing=[each for each in live if each.state is ChannelState.PAYER_CLOSING],
        purses=_purses(connection, due),
    )


def keep_cursor(connection: Connection, next_block: int) -> None:
    """Remember up to where close requests were read."""
    connection.execute(chain_cursors.delete().where(chain_cursors.c.name == CURSOR))
    connection.execute(chain_cursors.insert(), {"name": CURSOR, "next_block": next_block})


def _in_states(connection: Connection, states: tuple[str, ...], rows_max: int) -> list[Channel]:
    query = _CHANNELS.where(channels.c.state.in_(states)).limit(rows_max)
    return [channel_of(row) for row in connection.execute(query).mappings()]


def _owes(connection: Connection, channel: Channel, due: Due) -> bool:
    owed = spent(spent_nusd(connection, account_of(channel.channel_id))) - channel.settled
    if channel.state is ChannelState.PAYER_CLOSING:
        return owed > 0
    return owed >= due.settle_base_units or (
        owed > 0 and channel.settled_unix_ms < due.settled_before_ms
    )


def _purses(connection: Connection, due: Due) -> list[Purse]:
    least = {"least": due.refund_min_base_units * NUSD_PER_BASE_UNIT}
    found = []
    for name, balance_nusd in connection.execute(_PURSES.limit(due.rows_max), least):
        account_id = name.removeprefix("customer:").removesuffix(":available")
        payer = subject_of(account_id)
        if len(payer) != _ADDRESS_CHARS:
            continue
        # A transfer is posted before its request holds it.
        recent = {"payer": payer, "paid_before_ms": due.paid_before_ms}
        is_in_use = connection.execute(_IS_BOUND, {"account": account_id}).scalar()
        if not is_in_use and not connection.execute(_HAS_PAID, recent).scalar():
            found.append(Purse(payer, balance_nusd // NUSD_PER_BASE_UNIT))
    return found
