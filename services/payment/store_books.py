"""Posting: one write transaction's view of the ledger, from its locked head to its last row.

The head's lock puts all postings in one line, which is what makes `seq` gapless, the chain a chain
and every check-then-write in the same transaction safe, on both engines.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select, update

from kit.db_statements import KeyedStatement, Statement
from services.payment.ledger import (
    GENESIS_HASH,
    Draft,
    account_hash,
    transaction_hash,
)
from services.payment.store_tables import (
    Row,
    account_chain,
    accounts,
    balances,
    entries,
    insert,
    ledger_head,
    transactions,
    upsert,
)

_LOCK: Final = Statement(select(ledger_head.c.seq, ledger_head.c.hash).with_for_update())
_MOVE: Final = Statement(
    update(ledger_head).values(seq=bindparam("new_seq"), hash=bindparam("new_hash")),
    "new_seq",
    "new_hash",
)
_BALANCES: Final = KeyedStatement(select(balances), balances.c.ledger_account)
_ACCOUNTS: Final = KeyedStatement(select(accounts), accounts.c.account_id)
_ENTRIES: Final = insert(entries)
_TRANSACTIONS: Final = insert(transactions)
_LINKS: Final = insert(account_chain)
_KEEP_BALANCES: Final = upsert(balances)
_KEEP_ACCOUNTS: Final = upsert(accounts)


class Books:
    """The ledger inside one write transaction; `flush` writes what was posted, all at once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        ((self._seq, self._hash),) = _LOCK.rows(connection)
        self._posted: list[tuple[int, bytes, Draft]] = []

    def balances(self, names: Iterable[str]) -> dict[str, int]:
        """Return the stored balances of ledger accounts; one that was never used has zero."""
        return stored_balances(self._connection, names)

    def post(self, draft: Draft) -> int:
        """Add a transaction and return its position in the ledger."""
        self._seq += 1
        self._hash = transaction_hash(self._hash, self._seq, draft)
        self._posted.append((self._seq, self._hash, draft))
        return int(self._seq)

    def flush(self) -> None:
        """Write the posted transactions, their chains and the balances they change."""
        if not self._posted:
            return
        connection = self._connection
        _ENTRIES.run_all(connection, _entry_rows(self._posted))
        _TRANSACTIONS.run_all(connection, _transaction_rows(self._posted))
        self._write_chains()
        self._write_balances()
        _MOVE.run(connection, self._seq, self._hash)
        self._posted = []

    def _write_balances(self) -> None:
        changes: dict[str, int] = {}
        for _, _, draft in self._posted:
            for posting in draft.postings:
                name = posting.ledger_account
                changes[name] = changes.get(name, 0) + posting.amount_nusd
        before = self.balances(sorted(changes))
        rows = [(name, before[name] + change) for name, change in sorted(changes.items())]
        _KEEP_BALANCES.run_all(self._connection, rows)

    def _write_chains(self) -> None:
        touched = sorted({name for _, _, draft in self._posted for name in draft.customers()})
        heads: dict[str, Row] = {name: new_account(name) for name in touched}
        for row in _ACCOUNTS.rows(self._connection, touched):
            heads[row[0]] = dict(zip(accounts.c.keys(), row, strict=True))
        links = [
            _link(heads[name], seq, of_transaction, draft)
            for seq, of_transaction, draft in self._posted
            for name in draft.customers()
        ]
        _LINKS.run_all(self._connection, links)
        _KEEP_ACCOUNTS.run_all(self._connection, [[*head.values()] for head in heads.values()])


def stored_balances(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """Return the stored balances of ledger accounts; one that was never used has zero."""
    found = dict.fromkeys(names, 0)
    found.update((name, balance) for name, balance in _BALANCES.rows(connection, found))
    return found


def _entry_rows(posted: Sequence[tuple[int, bytes, Draft]]) -> list[tuple[int, str, int]]:
    return [
        (seq, line.ledger_account, line.amount_nusd)
        for seq, _, draft in posted
        for line in draft.postings
    ]


def _transaction_rows(posted: Sequence[tuple[int, bytes, Draft]]) -> list[tuple[Any, ...]]:
    return [
        (seq, str(draft.kind), draft.reference, draft.unix_ms, draft.detail_hash, chained)
        for seq, chained, draft in posted
    ]


def new_account(account_id: str) -> Row:
    """Return the row of a customer account that no transaction has touched."""
    return {
        "account_id": account_id,
        "chain_seq": 0,
        "chain_hash": GENESIS_HASH,
        "charged_nusd": 0,
    }


def _link(head: Row, seq: int, of_transaction: bytes, draft: Draft) -> tuple[str, int, int, bytes]:
    head["chain_seq"] += 1
    head["chain_hash"] = account_hash(head["chain_hash"], head["chain_seq"], of_transaction)
    head["charged_nusd"] += draft.charged_nusd()
    return head["account_id"], head["chain_seq"], seq, head["chain_hash"]
