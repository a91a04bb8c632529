"""Statements about balances: credit, reading, and rebuilding the projections from the ledger."""

from typing import Final

from sqlalchemy import Connection, bindparam, func, select

from services.payment import ledger
from services.payment.caps.store_keeping import correct_use
from services.payment.ledger import Draft, Kind
from services.payment.promos.marks import mark
from services.payment.store_answers import ask, remember
from services.payment.store_books import Books, new_account
from services.payment.store_tables import (
    Row,
    account_chain,
    accounts,
    balances,
    charges,
    entries,
    refunds,
)

_BALANCES: Final = select(balances.c.ledger_account, balances.c.balance_nusd).where(
    balances.c.ledger_account.in_(bindparam("names", expanding=True))
)
_CHARGED: Final = select(accounts.c.charged_nusd).where(
    accounts.c.account_id == bindparam("account_id")
)


def balance(connection: Connection, account_id: str) -> dict[str, int]:
    """Return an account's balance as the fields of `Balance`; an unknown account has zeros."""
    names = {
        ledger.available(account_id): "available_nusd",
        ledger.held(account_id): "held_nusd",
        ledger.debt(account_id): "debt_nusd",
        mark(account_id): "promo_nusd",
    }
    found = dict.fromkeys(names.values(), 0)
    for name, amount in connection.execute(_BALANCES, {"names": list(names)}):
        found[names[name]] = amount
    found["debt_nusd"] = -found["debt_nusd"]
    charged = connection.execute(_CHARGED, {"account_id": account_id}).scalar()
    return {**found, "charged_nusd": charged or 0}


def credit(
    connection: Connection,
    *,
    account_id: str,
    amount_nusd: int,
    source: str,
    request_id: str,
    now_ms: int,
) -> dict[str, int]:
    """Credit an account once per request id and return its balance."""
    books = Books(connection)
    asked = ["credit", account_id, amount_nusd, source]
    answered = ask(connection, request_id, asked)
    if answered is not None:
        return answered
    owed = -books.balances([ledger.debt(account_id)])[ledger.debt(account_id)]
    postings = ledger.credit(account_id, amount_nusd, source=source, debt_nusd=owed)
    books.post(Draft(Kind.CREDIT, request_id, now_ms, postings))
    books.flush()
    answer = balance(connection, account_id)
    remember(connection, request_id, asked, answer, now_ms=now_ms, is_kept=True)
    return answer


def page(connection: Connection, *, after: str, count_max: int) -> list[tuple[str, int]]:
    """Return ledger accounts and balances by name, from the one after `after`."""
    query = (
        select(balances.c.ledger_account, balances.c.balance_nusd)
        .where(balances.c.ledger_account > after)
        .order_by(balances.c.ledger_account)
        .limit(count_max)
    )
    return [(name, amount) for name, amount in connection.execute(query)]


def rebuild(connection: Connection) -> tuple[int, int]:
    """Recompute balances and charged sums; return how many balances were wrong, and how many are.

    Memory grows with the number of ledger accounts, not with the ledger.
    """
    Books(connection)
    total = func.sum(entries.c.amount_nusd)
    query = select(entries.c.ledger_account, total).group_by(entries.c.ledger_account)
    right = {name: int(amount) for name, amount in connection.execute(query)}
    stored = {row.ledger_account: row.balance_nusd for row in connection.execute(select(balances))}
    names = right.keys() | stored.keys()
    wrong = sum(1 for name in names if right.get(name, 0) != stored.get(name, 0))
    connection.execute(balances.delete())
    if right:
        rows = [{"ledger_account": n, "balance_nusd": a} for n, a in sorted(right.items())]
        connection.execute(balances.insert(), rows)
    _rebuild_accounts(connection)
    correct_use(connection)
    return wrong, len(right)


def _rebuild_accounts(connection: Connection) -> None:
    heads: dict[str, Row] = {}
    last = select(account_chain.c.account_id, func.max(account_chain.c.account_seq).label("seq"))
    ends = last.group_by(account_chain.c.account_id).subquery()
    is_end = (account_chain.c.account_id == ends.c.account_id) & (
        account_chain.c.account_seq == ends.c.seq
    )
    for link in connection.execute(select(account_chain).join(ends, is_end)):
        heads[link.account_id] = new_account(link.account_id)
        heads[link.account_id].update(chain_seq=link.account_seq, chain_hash=link.hash)
    charged = select(charges.c.account_id, func.sum(charges.c.charged_nusd))
    posted = charged.where(charges.c.txn_seq.is_not(None)).group_by(charges.c.account_id)
    for account_id, amount in connection.execute(posted):
        heads[account_id]["charged_nusd"] = int(amount)
    given_back = select(refunds.c.account_id, func.sum(refunds.c.refunded_nusd))
    posted = given_back.where(refunds.c.txn_seq.is_not(None)).group_by(refunds.c.account_id)
    for account_id, amount in connection.execute(posted):
        heads[account_id]["charged_nusd"] -= int(amount)
    connection.execute(accounts.delete())
    if heads:
        connection.execute(accounts.insert(), list(heads.values()))
