"""Roots on both engines: whatever a kept root covers cannot be changed without being named."""

from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, delete, text, update

from services.payment.proof.receipts import fields_of
from services.payment.proof.roots import read_line
from services.payment.proof.store import ProofStore
from services.payment.proof.tables import receipts
from services.payment.store_tables import charges, entries, refunds, transactions
from tests.unit.payment.proof.bill_rig import checked, named, priced, signed
from tests.unit.payment.proof.tampering import drop_guards, edit_receipt, rehash
from tests.unit.payment.rig import Rig, open_rig

# Credit 1 and 2, lease 3 and 4, charges of a 5 and of b 6, refund of r2 7, charge of r3 8.
CHARGES = 5


@pytest.fixture
async def rig(database_url: str) -> AsyncIterator[Rig]:
    async with open_rig(database_url) as opened:
        await opened.credit("a", 10_000_000)
        await opened.credit("b", 10_000_000)
        mine, _ = await opened.lease("a", 200_000)
        other, _ = await opened.lease("b", 100_000)
        await opened.settle(
            priced("r1", mine),
            priced("r2", mine, is_refunded=True),
            priced("s1", other, account_id="b"),
        )
        await opened.settle(priced("r3", mine, completion=5))
        yield opened


async def test_untouched_ledger_fits_its_roots(rig: Rig, tmp_path: Path) -> None:
    lines = await signed(rig, tmp_path / "roots.jsonl", root_transactions_max=3)

    report = await checked(rig, lines)

    assert [] == report.findings
    assert (3, 8, 5) == (report.root_count, report.transaction_count, report.receipt_count)
    assert (await rig.verify()).is_clean


def _execute(statement: str, connection: Connection) -> None:
    connection.execute(text(statement))


def _edit_entry(connection: Connection) -> None:
    for name, change in (("revenue", -1), ("customer:a:held", 1)):
        where = (entries.c.txn_seq == CHARGES) & (entries.c.ledger_account == name)
        amount = entries.c.amount_nusd + change
        connection.execute(update(entries).where(where).values(amount_nusd=amount))


def _edit_charge(connection: Connection) -> None:
    where = charges.c.event_id == "r1:outcome"
    amount = {"charge_nusd": 1, "charged_nusd": 1}
    connection.execute(update(charges).where(where).values(amount))


def _edit_charge_and_receipt(connection: Connection) -> None:
    _edit_charge(connection)
    edit_receipt(connection, "a", 1, charge_nusd="1", charged_nusd="1")


def _edit_refund(connection: Connection) -> None:
    where = refunds.c.event_id == "r2:outcome"
    connection.execute(update(refunds).where(where).values(refunded_nusd=1))


def _edit_transaction(connection: Connection) -> None:
    where = transactions.c.seq == 2
    connection.execute(update(transactions).where(where).values(reference="another"))


def _edit_tokens(connection: Connection) -> None:
    edit_receipt(connection, "b", 1, prompt_token_count="8")


def _delete_last_transaction(connection: Connection) -> None:
    for table in (receipts, charges, entries):
        connection.execute(delete(table).where(table.c.txn_seq == 8))
    connection.execute(delete(transactions).where(transactions.c.seq == 8))


def _delete_charge(connection: Connection) -> None:
    connection.execute(delete(charges).where(charges.c.event_id == "r1:outcome"))


def _delete_receipt(connection: Connection) -> None:
    mine = (receipts.c.account_id == "a") & (receipts.c.receipt_seq == 2)
    connection.execute(delete(receipts).where(mine))


def _delete_refund(connection: Connection) -> None:
    connection.execute(delete(refunds).where(refunds.c.event_id == "r2:outcome"))


def _delete_entry(connection: Connection) -> None:
    where = (entries.c.txn_seq == 3) & (entries.c.ledger_account == "customer:a:held")
    connection.execute(delete(entries).where(where))


def _reorder_transactions(connection: Connection) -> None:
    for table, column in ((entries, "txn_seq"), (transactions, "seq")):
        for old, new in ((1, -1), (2, 1), (-1, 2)):
            where = table.c[column] == old
            connection.execute(update(table).where(where).values({column: new}))


def _reorder_receipts(connection: Connection) -> None:
    for old, new in ((1, -1), (2, 1), (-1, 2)):
        where = (receipts.c.account_id == "a") & (receipts.c.receipt_seq == old)
        connection.execute(update(receipts).where(where).values(receipt_seq=new))
    edit_receipt(connection, "a", 1, receipt_seq="1")
    edit_receipt(connection, "a", 2, receipt_seq="2")


def _reorder_charges(connection: Connection) -> None:
    """Let a charge and its receipt change places with those of a later transaction."""
    for old, new in (("r1", "x"), ("r3", "r1"), ("x", "r3")):
        where = charges.c.event_id == f"{old}:outcome"
        seq = {"r1": 8, "r3": CHARGES, "x": 8}[old]
        values = {"event_id": f"{new}:outcome", "request_id": new, "txn_seq": seq}
        connection.execute(update(charges).where(where).values(values))


@pytest.mark.parametrize(
    ("tamper", "found"),
    [
        (_edit_transaction, {("transaction", "2")}),
        (_edit_entry, {("transaction", "5")}),
        (_edit_charge, {("transaction", "5"), ("charge", "r1:outcome")}),
        (_edit_charge_and_receipt, {("transaction", "5"), ("receipt", "a:1")}),
        (_edit_tokens, {("transaction", "6"), ("receipt", "b:1")}),
        (_edit_refund, {("transaction", "7"), ("refund", "r2:outcome")}),
        (_delete_last_transaction, {("transaction", "8"), ("receipt", "a:4")}),
        (_delete_entry, {("transaction", "3")}),
        (_delete_charge, {("transaction", "5"), ("receipt", "a:1")}),
        (_delete_receipt, {("transaction", "5"), ("receipt", "a:2"), ("charge", "r2:outcome")}),
        (_delete_refund, {("transaction", "7"), ("receipt", "a:3")}),
        (_reorder_transactions, {("transaction", "1"), ("transaction", "2")}),
        (_reorder_receipts, {("transaction", "5"), ("receipt", "a:1"), ("receipt", "a:2")}),
        (_reorder_charges, {("transaction", "5"), ("transaction", "8")}),
    ],
)
async def test_change_is_named_although_every_hash_was_computed_anew(
    rig: Rig,
    tmp_path: Path,
    tamper: Callable[[Connection], None],
    found: set[tuple[str, str]],
) -> None:
    lines = await signed(rig, tmp_path / "roots.jsonl", root_transactions_max=3)
    await rig.transactions.write(drop_guards)
    await rig.transactions.write(tamper)
    await rig.transactions.write(rehash)

    names = await named(rig, lines)

    assert found <= names
    assert {subject for check, subject in names if check == "transaction"} == {
        subject for check, subject in found if check == "transaction"
    }


async def test_change_without_new_hashes_is_named_as_well(rig: Rig, tmp_path: Path) -> None:
    lines = await signed(rig, tmp_path / "roots.jsonl")
    await rig.transactions.write(drop_guards)
    await rig.transactions.write(_edit_charge)

    assert ("charge", "r1:outcome") in await named(rig, lines)
    assert ("charge", "r1:outcome") in {
        (each.check, each.subject) for each in (await rig.verify()).findings
    }


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM roots WHERE number = 2", "UPDATE roots SET signature = hash WHERE number = 2"],
)
async def test_root_that_the_database_lost_is_named(
    rig: Rig, tmp_path: Path, statement: str
) -> None:
    lines = await signed(rig, tmp_path / "roots.jsonl", root_transactions_max=3)
    await rig.transactions.write(drop_guards)
    await rig.transactions.write(partial(_execute, statement))

    assert {("root", "2")} == await named(rig, lines)


async def test_receipts_and_roots_refuse_to_be_changed(rig: Rig, tmp_path: Path) -> None:
    await signed(rig, tmp_path / "roots.jsonl")

    for table in ("receipts", "roots"):
        for verb in (f"DELETE FROM {table}", f"UPDATE {table} SET kind = 'x'"):
            with pytest.raises(Exception, match="append-only"):
                await rig.transactions.write(partial(_execute, verb))


async def test_receipt_says_what_was_charged_and_by_which_price(rig: Rig) -> None:
    rows = await ProofStore(rig.transactions).receipts_of("a", after=0, count_max=10)

    found = [fields_of(row["body"]) for row in rows]
    assert ["r1", "r2", "r2", "r3"] == [each["request_id"] for each in found]
    assert ["charge", "charge", "refund", "charge"] == [each["kind"] for each in found]
    assert ("7751", "7751", "0", "0") == tuple(
        found[0][name] for name in ("charge_nusd", "charged_nusd", "writeoff_nusd", "refunded_nusd")
    )
    assert ("0", "7751", "invalid_output") == tuple(
        found[2][name] for name in ("charge_nusd", "refunded_nusd", "reason")
    )
    assert ("2026-01", "250000", "7", "3", "upstream") == tuple(
        found[0][name]
        for name in (
            "price_id",
            "input_pusd_per_token",
            "prompt_token_count",
            "completion_token_count",
            "token_source",
        )
    )


async def test_end_with_an_odd_name_is_charged_and_proven(rig: Rig, tmp_path: Path) -> None:
    lease_id, _ = await rig.lease("b", 100_000)
    odd = priced("odd", lease_id, account_id="b")
    odd.finish_reason = "\x00\N{SNOWMAN}"

    applied = await rig.settle(odd)

    assert (1, 0) == (applied.charge_count, applied.dead_letter_count)
    (_, row) = await ProofStore(rig.transactions).receipts_of("b", after=0, count_max=2)
    assert "\x00\N{SNOWMAN}" == fields_of(row["body"])["finish_reason"]
    assert [] == (await checked(rig, await signed(rig, tmp_path / "roots.jsonl"))).findings


async def test_day_is_signed_once_it_is_over(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "roots.jsonl"
    await signed(rig, path, root_transactions_max=3)
    rig.clock.advance(86_400.0)
    await signed(rig, path)
    await rig.credit("a", 1)

    lines = await signed(rig, path)

    kinds = [read_line(line)[0].fields["kind"] for line in lines]
    assert ["batch", "batch", "batch", "day", "batch"] == kinds
    assert [] == (await checked(rig, lines)).findings


async def test_transaction_of_the_next_day_waits_for_the_root_of_the_day(
    rig: Rig, tmp_path: Path
) -> None:
    rig.clock.advance(86_400.0)
    await rig.credit("a", 1)

    lines = await signed(rig, tmp_path / "roots.jsonl")

    found = [read_line(line)[0].fields for line in lines]
    assert ["batch", "day", "batch"] == [each["kind"] for each in found]
    assert ["8", "8", "9"] == [each["last_seq"] for each in found]
    assert [] == (await checked(rig, lines)).findings
