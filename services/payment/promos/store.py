"""Statements of promotional credit: giving it, using it up, and taking back what was not used."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, RowMapping, bindparam, select, update

from services.payment import ledger
from services.payment.ledger import Draft, Kind, Posting, balanced
from services.payment.promos.marks import NEVER_UNIX_MS, PROMO, SPENT, end, give, mark
from services.payment.promos.tables import promos
from services.payment.store_answers import ask, remember
from services.payment.store_balances import balance
from services.payment.store_books import Books
from services.payment.store_tables import Row

_OPEN: Final = (
    select(promos)
    .where(promos.c.account_id == bindparam("account"), promos.c.is_open == 1)
    .order_by(promos.c.ends_at_unix_ms, promos.c.promo_id)
)
_DUE: Final = (
    select(promos)
    .where(promos.c.is_open == 1, promos.c.ends_at_unix_ms <= bindparam("now"))
    .order_by(promos.c.ends_at_unix_ms, promos.c.promo_id)
)
_USE: Final = (
    update(promos)
    .where(promos.c.promo_id == bindparam("promo"))
    .values(spent_nusd=bindparam("spent"), ended_nusd=bindparam("ended"), is_open=bindparam("open"))
)


@dataclass(frozen=True, slots=True)
class PromoTerms:
    """A gift: to whom, how much, nano-USD, and until when; `ends_at_unix_ms` 0 means for ever."""

    account_id: str
    amount_nusd: int
    ends_at_unix_ms: int
    request_id: str


def credit(connection: Connection, terms: PromoTerms, *, now_ms: int) -> dict[str, int]:
    """Give credit once per request id and return the account's balance.

    Raises:
        TurnpikeError: ALREADY_EXISTS, a used request id.
    """
    books = Books(connection)
    account_id, amount = terms.account_id, terms.amount_nusd
    asked: list[object] = ["credit", account_id, amount, PROMO]
    if terms.ends_at_unix_ms:
        asked.append(terms.ends_at_unix_ms)
    answered = ask(connection, terms.request_id, asked)
    if answered is not None:
        return answered
    owed = -books.balances([ledger.debt(account_id)])[ledger.debt(account_id)]
    postings = give(account_id, amount, debt_nusd=owed)
    books.post(Draft(Kind.CREDIT, terms.request_id, now_ms, postings))
    books.flush()
    if amount > owed:
        connection.execute(promos.insert(), _new_promo(terms, amount - owed))
    answer = balance(connection, account_id)
    remember(connection, terms.request_id, asked, answer, now_ms=now_ms, is_kept=True)
    return answer


def use_up(connection: Connection, spent: Mapping[str, int]) -> None:
    """Note what of accounts' gifts was used, those that end first before others.

    A mark of more than the gifts have left would be a finding of verification; no charge waits
    for that.
    """
    for account_id, amount in sorted(spent.items()):
        left = amount
        for promo in connection.execute(_OPEN, {"account": account_id}).mappings().all():
            part = min(left, _left(promo))
            left -= part
            if part:
                connection.execute(_USE, _used(promo, spent_nusd=part))


def end_due(connection: Connection, *, now_ms: int, count_max: int) -> int:
    """Take back gifts that were not used in time; return how much, nano-USD.

    What is in leases is taken when it comes back. A mark that no money stands behind any more, as
    a payment was taken back in the meantime, counts as spent.
    """
    query, moment = _DUE.limit(count_max), {"now": now_ms}
    if connection.execute(query.limit(1), moment).first() is None:
        return 0
    books = Books(connection)
    due = connection.execute(query, moment).mappings().all()
    money = _money(books, {promo["account_id"] for promo in due})
    ended_nusd = 0
    for promo in due:
        account_id, left = promo["account_id"], _left(promo)
        ended = min(left, money[ledger.available(account_id)])
        spent = 0 if money[ledger.held(account_id)] else left - ended
        money[ledger.available(account_id)] -= ended
        postings = balanced(
            *end(account_id, ended),
            Posting(mark(account_id), -spent),
            Posting(SPENT, spent),
        )
        if postings:
            books.post(Draft(Kind.EXPIRY, promo["promo_id"], now_ms, postings))
        connection.execute(_USE, _used(promo, spent_nusd=spent, ended_nusd=ended))
        ended_nusd += ended
    books.flush()
    return ended_nusd


def _money(books: Books, account_ids: Iterable[str]) -> dict[str, int]:
    names = [name(each) for each in sorted(account_ids) for name in (ledger.available, ledger.held)]
    return books.balances(names)


def _left(promo: RowMapping) -> int:
    left: int = promo["granted_nusd"] - promo["spent_nusd"] - promo["ended_nusd"]
    return left


def _used(promo: RowMapping, *, spent_nusd: int, ended_nusd: int = 0) -> Row:
    return {
        "promo": promo["promo_id"],
        "spent": promo["spent_nusd"] + spent_nusd,
        "ended": promo["ended_nusd"] + ended_nusd,
        "open": int(_left(promo) > spent_nusd + ended_nusd),
    }


def _new_promo(terms: PromoTerms, granted_nusd: int) -> Row:
    return {
        "promo_id": terms.request_id,
        "account_id": terms.account_id,
        "granted_nusd": granted_nusd,
        "spent_nusd": 0,
        "ended_nusd": 0,
        "ends_at_unix_ms": terms.ends_at_unix_ms or NEVER_UNIX_MS,
        "is_open": 1,
    }
