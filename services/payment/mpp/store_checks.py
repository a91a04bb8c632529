"""Whether channels and the ledger say the same: settled <= spent <= accepted <= deposit.

Amounts of a channel are base units; findings are in nano-USD. What is noted counts as spent.
"""

from typing import Final

from sqlalchemy import ColumnElement, Connection, case, exists, func, select

from services.payment.mpp.postings import NUSD_PER_BASE_UNIT
from services.payment.mpp.states import ChannelState
from services.payment.mpp.store_notes import IS_POSTED
from services.payment.mpp.tables import channels, noted_charges
from services.payment.store_discrepancies import Check, Discrepancy, unequal
from services.payment.store_tables import accounts, balances

_CHECK: Final = "channel"
_ENDED: Final = (ChannelState.CLOSED.value, ChannelState.FAILED.value, ChannelState.OPENING.value)
_ACCOUNT: Final = "tempo:" + channels.c.channel_id
_NOTED: Final = (
    select(func.coalesce(func.sum(noted_charges.c.charge_nusd), 0))
    .where(noted_charges.c.account_id == _ACCOUNT, ~IS_POSTED)
    .correlate(channels)
    .scalar_subquery()
)
_CHARGED: Final = (
    select(func.coalesce(func.sum(accounts.c.charged_nusd), 0))
    .where(accounts.c.account_id == _ACCOUNT)
    .correlate(channels)
    .scalar_subquery()
)
_SPENT: Final = _CHARGED + _NOTED


def _nusd(column: ColumnElement[int]) -> ColumnElement[int]:
    return column * NUSD_PER_BASE_UNIT


def _disordered(connection: Connection, *, count_max: int) -> list[Discrepancy]:
    """Find channels that settled more than was spent, or spent more than was accepted.

    What was spent is rounded up to a base unit on chain.
    """
    settled, accepted = _nusd(channels.c.settled), _nusd(channels.c.accepted)
    bound = case((settled > _SPENT + NUSD_PER_BASE_UNIT - 1, settled), else_=accepted)
    query = (
        select(channels.c.channel_id, bound, _SPENT)
        .where((settled > _SPENT + NUSD_PER_BASE_UNIT - 1) | (_SPENT > accepted))
        .order_by(channels.c.channel_id)
    )
    return unequal(connection, _CHECK, query.limit(count_max))


def _beyond_deposit(connection: Connection, *, count_max: int) -> list[Discrepancy]:
    """Find channels that accepted more than their deposit, or settled more than was accepted."""
    is_wrong = (channels.c.accepted > channels.c.deposit) | (
        channels.c.settled > channels.c.accepted
    )
    query = (
        select(channels.c.channel_id, _nusd(channels.c.deposit), _nusd(channels.c.accepted))
        .where(is_wrong)
        .order_by(channels.c.channel_id)
    )
    return unequal(connection, _CHECK, query.limit(count_max))


def _wrong_escrow(connection: Connection, *, count_max: int) -> list[Discrepancy]:
    """Find channels whose escrow account is not what they still owe."""
    name = "tempo_escrow:" + channels.c.channel_id
    expected = case(
        (channels.c.state.in_(_ENDED), 0),
        else_=_nusd(channels.c.settled - channels.c.accepted),
    )
    stored = func.coalesce(balances.c.balance_nusd, 0)
    query = (
        select(name, expected, stored)
        .select_from(channels.outerjoin(balances, balances.c.ledger_account == name))
        .where(expected != stored)
        .order_by(name)
    )
    return unequal(connection, _CHECK, query.limit(count_max))


def _unknown_escrow(connection: Connection, *, count_max: int) -> list[Discrepancy]:
    """Find escrow accounts with a balance and no channel."""
    name, stored = balances.c.ledger_account, balances.c.balance_nusd
    is_known = exists().where(name == "tempo_escrow:" + channels.c.channel_id)
    query = (
        select(name, stored * 0, stored)
        .where(name.like("tempo\\_escrow:%", escape="\\"), stored != 0, ~is_known)
        .order_by(name)
    )
    return unequal(connection, _CHECK, query.limit(count_max))


CHECKS: Final[tuple[Check, ...]] = (
    _disordered,
    _beyond_deposit,
    _wrong_escrow,
    _unknown_escrow,
)
