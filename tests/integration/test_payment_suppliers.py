"""What suppliers and providers are owed, on SQLite and PostgreSQL: once, proven, never overpaid."""

from collections.abc import AsyncIterator
from functools import partial

import pytest
from sqlalchemy import Connection, TextClause, text
from sqlalchemy.exc import IntegrityError

from kit.errors import Reason, TurnpikeError
from services.payment.ledger import REVENUE, Draft, Posting
from services.payment.settlement import Losses
from services.payment.store_books import Books
from services.payment.suppliers.earnings import cost, earned, payable, payouts
from services.payment.suppliers.store import PayoutTerms, Span, SuppliersStore
from services.payment.suppliers.tables import earnings
from services.payment.suppliers.tables import payouts as payout_rows
from tests.unit.payment.rig import Rig, costly, open_rig, outcome, refunded, shared

ACME, BOUGHT = "supplier:acme", "provider:bought"
NOBODY = ("", "", "")


@pytest.fixture
async def rig(database_url: str) -> AsyncIterator[Rig]:
    async with open_rig(database_url) as opened:
        await opened.credit("a", 100_000)
        yield opened


@pytest.fixture
def store(rig: Rig) -> SuppliersStore:
    return SuppliersStore(rig.transactions, clock=rig.clock)


async def sell(rig: Rig) -> None:
    """Sell three answers: two of a supplier's, one that a provider is owed for."""
    lease_id, _ = await rig.lease("a", 1_000)
    await rig.settle(
        shared(outcome("r1", lease_id, hold_nusd=300, charge_nusd=100)),
        shared(outcome("r2", lease_id, hold_nusd=300, charge_nusd=200)),
        costly(outcome("r3", lease_id, hold_nusd=300, charge_nusd=50), 20),
        outcome("r4", lease_id, hold_nusd=300, charge_nusd=7),
    )


def payout(amount_nusd: int, *, reference: str = "t-1", request_id: str = "p-1") -> PayoutTerms:
    return PayoutTerms(ACME, amount_nusd, "bank", reference, request_id)


async def test_sale_is_owed_to_supplier_and_provider_in_the_same_transaction(rig: Rig) -> None:
    await sell(rig)

    balances = await rig.balances()
    assert (357 - 270, 270) == (balances[REVENUE], balances[earned("acme")])
    assert (-20, 20) == (balances[cost("bought")], balances[payable("bought")])
    assert 0 == sum(balances.values())
    answer = await rig.verify()
    assert [] == list(answer.findings)
    assert (290, 3) == (answer.owed_nusd, answer.earning_count)


async def test_redelivered_sale_is_owed_once(rig: Rig) -> None:
    lease_id, _ = await rig.lease("a", 1_000)
    parcel = rig.parcel(shared(outcome("r1", lease_id, hold_nusd=300, charge_nusd=100)))

    first = await rig.deliver(parcel)
    again = await rig.deliver(parcel)

    assert (90, 0) == (first.earned_nusd, again.earned_nusd)
    assert 90 == (await rig.balances())[earned("acme")]
    assert (await rig.verify()).is_clean


async def test_late_sale_is_owed_like_any_other(rig: Rig) -> None:
    lease_id, _ = await rig.lease("a", 1_000)
    await rig.give_back(lease_id, 1_000)

    applied = await rig.settle(shared(outcome("r1", lease_id, hold_nusd=300, charge_nusd=100)))

    assert (1, 90) == (applied.late_count, applied.earned_nusd)
    assert (await rig.verify()).is_clean


async def test_what_nobody_paid_is_no_suppliers_and_a_providers_all_the_same(rig: Rig) -> None:
    lease_id, _ = await rig.lease("a", 1_000)

    applied = await rig.settle(
        shared(outcome("r1", lease_id, hold_nusd=100, charge_nusd=300)),
        shared(refunded("r2", lease_id, hold_nusd=300, charge_nusd=300)),
        costly(outcome("r3:hedge", "", hold_nusd=0, charge_nusd=0, account_id="operator"), 20),
    )

    assert 90 + 20 == applied.earned_nusd
    balances = await rig.balances()
    assert (90, 20) == (balances[earned("acme")], balances[payable("bought")])
    assert (await rig.verify()).is_clean


async def test_loss_on_a_sale_is_counted(rig: Rig) -> None:
    losses = Losses()
    lease_id, _ = await rig.lease("a", 1_000)
    event = costly(outcome("r1", lease_id, hold_nusd=300, charge_nusd=1), 20)

    losses.add(await rig.settle(event))

    assert 20 == losses.earned_nusd


@pytest.mark.parametrize(
    "statement",
    [earnings.delete(), earnings.update().values(owed_nusd=1), payout_rows.delete(),
     payout_rows.update().values(rail="x")],
)  # fmt: skip
async def test_earnings_and_payouts_are_append_only(
    rig: Rig, store: SuppliersStore, statement: object
) -> None:
    await sell(rig)
    await store.pay(payout(1))

    with pytest.raises(IntegrityError, match="append-only"):
        await rig.transactions.write(lambda connection: connection.execute(statement))  # type: ignore[call-overload]


async def test_payout_takes_what_is_owed_and_a_repeat_changes_nothing(
    rig: Rig, store: SuppliersStore
) -> None:
    await sell(rig)

    row, owed = await store.pay(payout(200))
    again = await store.pay(payout(200))

    assert (ACME, 200, 70) == (row["payee_id"], row["amount_nusd"], owed)
    assert (row, owed) == again
    balances = await rig.balances()
    assert (70, 200) == (balances[earned("acme")], balances[payouts("bank")])
    assert (await rig.verify()).is_clean
    assert (0, len(balances)) == await rig.store.rebuild()


async def test_payout_above_what_is_owed_is_refused_with_both_figures(
    rig: Rig, store: SuppliersStore
) -> None:
    await sell(rig)
    before = await rig.balances()

    with pytest.raises(TurnpikeError, match=r"amount_nusd is 271; 270 is owed") as raised:
        await store.pay(payout(271))

    assert (Reason.INVALID_VALUE, "amount_nusd") == (
        raised.value.reason,
        raised.value.metadata["param"],
    )
    assert before == await rig.balances()


async def test_reference_is_booked_once_and_an_id_is_for_one_payout(
    rig: Rig, store: SuppliersStore
) -> None:
    await sell(rig)
    await store.pay(payout(10))

    for other in (payout(10, request_id="p-2"), payout(20)):
        with pytest.raises(TurnpikeError) as raised:
            await store.pay(other)
        assert Reason.ALREADY_EXISTS == raised.value.reason
    assert 260 == (await rig.balances())[earned("acme")]


@pytest.mark.parametrize("account", [earned("acme"), payable("bought"), "customer:a:promo"])
async def test_database_forbids_to_owe_less_than_nothing(rig: Rig, account: str) -> None:
    await sell(rig)

    def overdraw(connection: Connection) -> None:
        books = Books(connection)
        lines = (Posting("payouts:x", 1_000), Posting(account, -1_000))
        books.post(Draft("payout", "x", 1, tuple(sorted(lines, key=lambda p: p.ledger_account))))
        books.flush()

    with pytest.raises(IntegrityError, match="balances_owed_or_given"):
        await rig.transactions.write(overdraw)


async def test_older_constraints_still_hold_after_the_migration(rig: Rig) -> None:
    for statement, name in (
        ("UPDATE balances SET balance_nusd = -1 WHERE ledger_account LIKE '%available'",
         "balances_never_overdrawn"),
        ("INSERT INTO balances VALUES ('customer\\:a\\:debt', 1)", "balances_debt_is_owed"),
    ):  # fmt: skip
        with pytest.raises(IntegrityError, match=name):
            await rig.transactions.write(partial(_execute, text(statement)))


async def test_statements_and_sums_come_in_pages(rig: Rig, store: SuppliersStore) -> None:
    await sell(rig)
    await store.pay(payout(10))
    await store.pay(payout(20, reference="t-2", request_id="p-2"))
    span = Span(0, rig.clock.unix_ms() + 1)

    first = await store.payees(after="", count_max=1)
    rest = await store.payees(after=first[0]["ledger_account"], count_max=10)
    found = {row["payee_id"]: row for row in [*first, *rest]}
    assert {ACME, BOUGHT} == found.keys()
    figures = [found[ACME][f"{part}_nusd"] for part in ("earned", "paid", "owed")]
    assert [270, 30, 240] == figures

    one = await store.earnings(payee_id=ACME, span=span, after="", count_max=1)
    two = await store.earnings(payee_id=ACME, span=span, after=one[0]["event_id"], count_max=9)
    assert [90, 180] == [row["owed_nusd"] for row in [*one, *two]]
    bought = await store.earnings(payee_id=BOUGHT, span=span, after="", count_max=9)
    assert [20] == [row["owed_nusd"] for row in bought]

    paid = await store.payouts(payee_id=ACME, after="p-1", count_max=9)
    assert ["p-2"] == [row["payout_id"] for row in paid]
    assert 2 == len(await store.payouts(payee_id="", after="", count_max=9))

    sums = await store.costs(span=span, after=NOBODY, count_max=9)
    assert [("bought", "", 1, 50, 20), ("lent", "acme", 2, 300, 270)] == [
        (row["provider"], row["supplier_id"], row["request_count"], row["paid_nusd"],
         row["owed_nusd"])
        for row in sums
    ]  # fmt: skip
    later = await store.costs(span=span, after=("bought", "", "model"), count_max=9)
    assert sums[1:] == later
    assert [] == await store.costs(span=Span(span.end_unix_ms), after=NOBODY, count_max=9)


@pytest.mark.parametrize(
    ("statement", "check", "subject"),
    [
        ("UPDATE earnings SET owed_nusd = 91 WHERE event_id = 'r1\\:outcome'", "earning",
         "r1:outcome"),
        ("UPDATE earnings SET paid_nusd = 99 WHERE event_id = 'r1\\:outcome'", "earning",
         "r1:outcome"),
        ("UPDATE earnings SET fee_bps = 900 WHERE event_id = 'r2\\:outcome'", "earning",
         "r2:outcome"),
        ("UPDATE earnings SET cost_nusd = 21 WHERE event_id = 'r3\\:outcome'", "earning",
         "r3:outcome"),
        ("UPDATE earnings SET supplier_id = 'other' WHERE event_id = 'r1\\:outcome'",
         "earning", "4"),
        ("UPDATE earnings SET event_id = 'r9\\:outcome' WHERE event_id = 'r1\\:outcome'",
         "earning", "r9:outcome"),
        ("UPDATE earnings SET txn_seq = NULL WHERE event_id = 'r1\\:outcome'", "earning",
         "r1:outcome"),
        ("UPDATE earnings SET txn_seq = 1 WHERE event_id = 'r1\\:outcome'", "earning", "1"),
        ("DELETE FROM earnings WHERE event_id = 'r1\\:outcome'", "earning", "4"),
        ("UPDATE payouts SET amount_nusd = 11", "payout", "5"),
        ("UPDATE payouts SET reference = 'other'", "payout", "5"),
        ("UPDATE payouts SET payee_id = 'nobody'", "payout", "5"),
        ("UPDATE payouts SET txn_seq = 1", "payout", "p-1"),
        ("DELETE FROM payouts", "payout", "5"),
    ],
)  # fmt: skip
async def test_verification_names_the_row_that_was_tampered_with(
    rig: Rig, store: SuppliersStore, statement: str, check: str, subject: str
) -> None:
    await sell(rig)
    await store.pay(payout(10))
    await rig.transactions.write(_drop_guards)
    await rig.transactions.write(partial(_execute, text(statement)))

    answer = await rig.verify()

    assert (check, subject) in {(found.check, found.subject) for found in answer.findings}


def _execute(statement: TextClause, connection: Connection) -> None:
    connection.execute(statement)


def _drop_guards(connection: Connection) -> None:
    for table in ("earnings", "payouts"):
        if connection.dialect.name != "sqlite":
            connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER ALL"))
            continue
        for verb in ("update", "delete"):
            connection.execute(text(f"DROP TRIGGER {table}_refuses_{verb}"))
