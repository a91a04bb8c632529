"""An attacker with all rights on the database, who knows how every hash is computed.

After a change `rehash` makes the whole ledger consistent again: details, transactions, chains.
Nothing in the database alone tells that anything happened.
"""

import hashlib
from typing import Any

from sqlalchemy import Connection, Select, Table, delete, insert, select, text, update

from services.payment.ledger import (
    GENESIS_HASH,
    Draft,
    Posting,
    account_hash,
    charge_fields,
    charges_hash,
    refund_fields,
    transaction_hash,
)
from services.payment.proof.receipts import body_of, covered, digest_of, fields_of, receipt_hash
from services.payment.proof.tables import receipt_heads, receipts
from services.payment.store_tables import (
    Row,
    account_chain,
    accounts,
    charges,
    entries,
    ledger_head,
    refunds,
    transactions,
)

GUARDED = ("transactions", "entries", "account_chain", "charges", "refunds", "receipts", "roots")


def drop_guards(connection: Connection) -> None:
    """Take away every trigger that refuses a change."""
    if connection.dialect.name != "sqlite":
        for table in GUARDED:
            connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER ALL"))
        return
    for table in GUARDED:
        for verb in ("update", "delete"):
            connection.execute(text(f"DROP TRIGGER {table}_refuses_{verb}"))
    for table in ("entries", "transactions"):
        connection.execute(text(f"DROP TRIGGER {table}_seal"))


def edit_receipt(connection: Connection, account_id: str, place: int, **fields: str) -> None:
    """Change fields of a receipt."""
    where = (receipts.c.account_id == account_id) & (receipts.c.receipt_seq == place)
    (row,) = rows(connection, receipts.select().where(where))
    body = body_of({**fields_of(row["body"]), **fields})
    connection.execute(update(receipts).where(where).values(body=body))


def rehash(connection: Connection) -> None:
    """Compute every hash of the ledger anew, from its first row to its last."""
    _rehash_receipts(connection)
    previous, seq = GENESIS_HASH, 0
    heads: dict[str, tuple[int, bytes]] = {}
    connection.execute(delete(account_chain))
    for row in rows(connection, select(transactions).order_by(transactions.c.seq)):
        draft = _draft(connection, row)
        seq, previous = row["seq"], transaction_hash(previous, row["seq"], draft)
        connection.execute(
            update(transactions)
            .where(transactions.c.seq == seq)
            .values(hash=previous, detail_hash=draft.detail_hash)
        )
        for account_id in draft.customers():
            place, chained = heads.get(account_id, (0, GENESIS_HASH))
            heads[account_id] = (place + 1, account_hash(chained, place + 1, previous))
            link = (account_id, place + 1, seq, heads[account_id][1])
            connection.execute(insert(account_chain).values(link))
    for account_id, (place, chained) in heads.items():
        connection.execute(
            update(accounts)
            .where(accounts.c.account_id == account_id)
            .values(chain_seq=place, chain_hash=chained)
        )
    connection.execute(update(ledger_head).values(seq=seq, hash=previous))


def _rehash_receipts(connection: Connection) -> None:
    connection.execute(delete(receipt_heads))
    order = (receipts.c.account_id, receipts.c.receipt_seq)
    heads: dict[str, tuple[int, bytes]] = {}
    for row in rows(connection, select(receipts).order_by(*order)):
        _, previous = heads.get(row["account_id"], (0, GENESIS_HASH))
        digest = receipt_hash(previous, row["body"])
        heads[row["account_id"]] = (row["receipt_seq"], digest)
        where = (receipts.c.txn_seq == row["txn_seq"]) & (
            receipts.c.receipt_seq == row["receipt_seq"]
        )
        connection.execute(update(receipts).where(where).values(hash=digest))
    for account_id, head in heads.items():
        connection.execute(insert(receipt_heads).values((account_id, *head)))


def _draft(connection: Connection, row: Row) -> Draft:
    lines = rows(
        connection,
        select(entries).where(entries.c.txn_seq == row["seq"]).order_by(entries.c.ledger_account),
    )
    postings = tuple(Posting(line["ledger_account"], line["amount_nusd"]) for line in lines)
    detail = row["detail_hash"]
    made = [digest_of(each["body"]) for each in _of(connection, receipts, row["seq"])]
    if charged := _of(connection, charges, row["seq"]):
        detail = covered(charges_hash(map(charge_fields, charged)), made)
    elif given_back := _of(connection, refunds, row["seq"]):
        detail = covered(charges_hash(map(refund_fields, given_back)), made)
    elif row["detail_hash"]:
        detail = covered(hashlib.sha256(b"").digest(), made)
    return Draft(row["kind"], row["reference"], row["unix_ms"], postings, detail)


def _of(connection: Connection, table: Table, seq: int) -> list[Row]:
    order = list(table.primary_key)
    return rows(connection, select(table).where(table.c.txn_seq == seq).order_by(*order))


def rows(connection: Connection, query: Select[Any]) -> list[Row]:
    """Return rows as mappings."""
    return [row._asdict() for row in connection.execute(query)]
