"""Queries that verification runs over earnings, payouts and gifts."""

from typing import Any, Final

from sqlalchemy import Select, bindparam, case, func, literal_column, or_, select

from services.payment.ledger import Kind
from services.payment.promos.tables import promos
from services.payment.store_tables import balances, charges, refunds, transactions
from services.payment.suppliers.tables import IS_OWED, earnings, payouts

EARNINGS: Final = (
    select(
        earnings,
        charges.c.charged_nusd,
        func.coalesce(refunds.c.refund_nusd, 0).label("refund_nusd"),
        func.coalesce(refunds.c.refunded_nusd, 0).label("refunded_nusd"),
        transactions.c.kind.label("posted_kind"),
    )
    .outerjoin(charges, charges.c.event_id == earnings.c.event_id)
    .outerjoin(refunds, refunds.c.event_id == earnings.c.event_id)
    .outerjoin(transactions, transactions.c.seq == earnings.c.txn_seq)
    .where(earnings.c.event_id > bindparam("after"))
    .order_by(earnings.c.event_id)
    .limit(bindparam("count_max"))
)


def unposted_payouts(count_max: int) -> Select[Any]:
    """Select payouts without a transaction of theirs: id, what they say, and nothing."""
    return (
        select(payouts.c.payout_id, payouts.c.amount_nusd, literal_column("0"))
        .outerjoin(transactions, transactions.c.seq == payouts.c.txn_seq)
        .where(or_(transactions.c.seq.is_(None), transactions.c.kind != str(Kind.PAYOUT)))
        .order_by(payouts.c.payout_id)
        .limit(count_max)
    )


def wrong_marks(count_max: int) -> Select[Any]:
    """Select marks of gifts that are not what the gifts have left: account, gifts, mark."""
    left = promos.c.granted_nusd - promos.c.spent_nusd - promos.c.ended_nusd
    owner = ("customer:" + promos.c.account_id + ":promo").label("ledger_account")
    sums = select(owner, func.sum(left).label("total")).group_by(promos.c.account_id).subquery()
    marks = (
        select(balances).where(balances.c.ledger_account.like("customer:%:promo")).subquery("marks")
    )
    name = func.coalesce(marks.c.ledger_account, sums.c.ledger_account)
    total = func.coalesce(sums.c.total, 0)
    stored = func.coalesce(marks.c.balance_nusd, 0)
    both = marks.outerjoin(sums, sums.c.ledger_account == marks.c.ledger_account, full=True)
    query = select(name, total, stored).select_from(both).where(total != stored)
    return query.order_by(name).limit(count_max)


def below_nothing(count_max: int) -> Select[Any]:
    """Select what is owed to others or was given and is less than nothing."""
    name, stored = balances.c.ledger_account, balances.c.balance_nusd
    is_wrong = case((or_(IS_OWED, name.like("customer:%:promo")), stored < 0))
    query = select(name, literal_column("0"), stored).where(is_wrong)
    return query.order_by(name).limit(count_max)
