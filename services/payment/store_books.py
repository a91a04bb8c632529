"""Posting: one write transaction's view of the ledger, from its locked head to its last row.

The head's lock puts all postings in one line, which is what makes `seq` gapless, the chain a chain
and every check-then-write in the same transaction safe, on both engines.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import Connection, bindparam, select, update

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
    ledger_head,
    transactions,
    upsert,
)

_LOCK: Final = select(ledger_head.c.seq, ledger_head.c.hash).with_for_update()
_MOVE: Final = update(ledger_head).values(seq=bindparam("new_seq"), hash=bindparam("new_hash"))
_BALANCES: Final = select(balances.c.ledger_account, balances.c.balance_nusd).where(
    balances.c.ledger_account.in_(bindparam("names", expanding=True))
)
_ACCOUNTS: Final = select(accounts).where(
    accounts.c.account_id.in_(bindparam("names", expanding=True))
)
_ENTRIES: Final = entries.insert()
_TRANSACTIONS: Final = transactions.insert()
_LINKS: Final = account_chain.insert()


class Books:
    """The ledger inside one write transaction; `flush` writes what was posted, all at once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._seq, self._hash = connection.execute(_LOCK).one()
        self._posted: list[tuple[int, bytes, Draft]] = []

    def balances(self, names: Iterable[str]) -> dict[str, int]:
        """Return the stored balances of ledger accounts; one that was never used has zero."""
        found = dict.fromkeys(names, 0)
        if found:
            rows = self._connection.execute(_BALANCES, {"names": list(found)})
            found.update((name, balance) for name, balance in rows)
        return found

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
        execute = self._connection.execute
        execute(_ENTRIES, _entry_rows(self._posted))
        execute(_TRANSACTIONS, _transaction_rows(self._posted))
        self._write_chains()
        self._write_balances()
        execute(_MOVE, {"new_seq": self._seq, "new_hash": self._hash})
        self._posted = []

    def _write_balances(self) -> None:
        changes: dict[str, int] = {}
        for _, _, draft in self._posted:
            for posting in draft.postings:
                name = posting.ledger_account
                changes[name] = changes.get(name, 0) + posting.amount_nusd
        before = self.balances(sorted(changes))
        rows = [
            {"ledger_account": name, "balance_nusd": before[name] + change}
            for name, change in sorted(changes.items())
        ]
        self._connection.execute(upsert(self._connection, balances), rows)

    def _write_chains(self) -> None:
        touched = sorted({name for _, _, draft in self._posted for name in draft.customers()})
        if not touched:
            return
        rows = self._connection.execute(_ACCOUNTS, {"names": touched}).mappings()
        heads: dict[str, Row] = {name: new_account(name) for name in touched}
        heads.update((row["account_id"], dict(row)) for row in rows)
        links = [
            _link(heads[name], seq, of_transaction, draft)
            for seq, of_transaction, draft in self._posted
            for name in draft.customers()
        ]
        self._connection.execute(_LINKS, links)
        self._connection.execute(upsert(self._connection, accounts), list(heads.values()))


def _entry_rows(posted: Sequence[tuple[int, bytes, Draft]]) -> list[Row]:
    return [
        {"txn_seq": seq, "ledger_account": line.ledger_account, "amount_nusd": line.amount_nusd}
        for seq, _, draft in posted
        for line in draft.postings
    ]


def _transaction_rows(posted: Sequence[tuple[int, bytes, Draft]]) -> list[Row]:
    return [
        {
            "seq": seq,
            "kind": draft.kind,
            "reference": draft.reference,
            "unix_ms": draft.unix_ms,
            "detail_hash": draft.detail_hash,
            "hash": chained,
        }
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


def _link(head: Row, seq: int, of_transaction: bytes, draft: Draft) -> Row:
    head["chain_seq"] += 1
    head["chain_hash"] = account_hash(head["chain_hash"], head["chain_seq"], of_transaction)
    head["charged_nusd"] += draft.charged_nusd()
    return {
        "account_id": head["account_id"],
        "account_seq": head["chain_seq"],
        "txn_seq": seq,
        "hash": head["chain_hash"],
    }
