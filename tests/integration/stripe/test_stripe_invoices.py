"""Invoices from a ledger in which everything happened, on SQLite and PostgreSQL."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Connection

from services.payment.ledger import Draft, Kind
from services.payment.promos.marks import give
from services.payment.store_books import Books
from services.payment.stripe.invoices import Invoice
from services.payment.stripe.rules import CENT_NUSD
from tests.unit.payment.rig import outcome, refunded
from tests.unit.payment.stripe.wallet import DAY_S, Wallet, charge, open_wallet

USD = 100 * CENT_NUSD


@pytest.fixture
async def wallet(database_url: str) -> AsyncIterator[Wallet]:
    async with open_wallet(database_url, invoice_lines_max=3) as opened:
        yield opened


async def use(wallet: Wallet, model_id: str, *amounts_nusd: int, account_id: str = "a") -> None:
    """Settle requests to a model."""
    lease_id, _ = await wallet.rig.lease(account_id, sum(amounts_nusd))
    events = []
    for amount in amounts_nusd:
        name = wallet.rig.new_id()
        events.append(
            outcome(name, lease_id, hold_nusd=amount, charge_nusd=amount, account_id=account_id)
        )
        events[-1].model_id = model_id
    await wallet.rig.settle(*events)


async def invoice_of(wallet: Wallet, period: str) -> Invoice:
    """Return a month, held to its own sums."""
    found = await wallet.store.invoice("a", period)
    assert found is not None
    lines = sum(line.amount_nusd for line in found.lines)
    assert found.closing_nusd == found.opening_nusd + lines
    assert lines == sum(found.by_kind.values())
    return found


async def test_month_adds_up_to_the_ledger(wallet: Wallet) -> None:
    await wallet.pay("pi_1", 1_000)
    await wallet.rig.credit("a", 5)
    await use(wallet, "small", 3, 4)
    await use(wallet, "large", 100)
    lease_id, _ = await wallet.rig.lease("a", 60)
    await wallet.rig.settle(refunded("r", lease_id, hold_nusd=60, charge_nusd=20))
    await wallet.tell("charge.refunded", charge("pi_1", 1_000, 300))

    found = await invoice_of(wallet, "2025-10")

    has, owes = await wallet.has()
    assert has + 40 - owes == found.closing_nusd
    assert {
        ("credit", "stripe", "pi_1", 1, 10 * USD),
        ("credit", "manual", "id-000001", 1, 5),
        ("reversal", "stripe", "pi_1", 1, -3 * USD),
        ("refund", "invalid_output", "", 1, 20),
        ("charge", "", "", 1, -20),
        ("charge", "large", "", 1, -100),
        ("charge", "small", "", 2, -7),
    } == {
        (line.kind, line.subject, line.reference, line.count, line.amount_nusd)
        for line in found.lines
    }
    assert (-127, 20) == (found.of(Kind.SETTLEMENT), found.of(Kind.REFUND))
    assert not found.is_final


async def test_months_follow_on_each_other(wallet: Wallet) -> None:
    await wallet.pay("pi_1", 1_000)
    await use(wallet, "small", 7)
    wallet.rig.clock.advance(31 * DAY_S)
    await use(wallet, "small", 11)

    listed = await wallet.store.invoices("a")
    first, second = await invoice_of(wallet, "2025-10"), await invoice_of(wallet, "2025-11")

    assert ["2025-11", "2025-10"] == [each.period for each in listed]
    assert (True, False) == (first.is_final, second.is_final)
    assert 10 * USD - 7 == first.closing_nusd == second.opening_nusd
    assert 10 * USD - 18 == second.closing_nusd == sum(await wallet.has())
    assert [each.closing_nusd for each in listed] == [second.closing_nusd, first.closing_nusd]


async def test_many_payments_are_grouped_beyond_a_number(wallet: Wallet) -> None:
    for number in range(5):
        await wallet.pay(f"pi_{number}", 100 + number)

    found = await invoice_of(wallet, "2025-10")

    assert [1, 1, 1, 2] == sorted(line.count for line in found.lines)
    assert 510 * CENT_NUSD == found.of(Kind.CREDIT)


async def test_credit_limit_is_nobodys_money(wallet: Wallet) -> None:
    await wallet.with_card()
    await wallet.store.set_postpaid("a", is_postpaid=True)
    await use(wallet, "small", USD + USD // 2)

    found = await invoice_of(wallet, "2025-10")

    assert -USD // 2 == found.closing_nusd
    assert {"credit", "charge"} == {line.kind for line in found.lines}


async def test_gift_is_one_line_however_it_is_marked(wallet: Wallet) -> None:
    def post(connection: Connection) -> None:
        books = Books(connection)
        books.post(Draft(Kind.CREDIT, "gift-1", 1_760_000_000_000, give("a", 50, debt_nusd=0)))
        books.flush()

    await wallet.rig.transactions.write(post)
    await use(wallet, "small", 20)

    found = await invoice_of(wallet, "2025-10")

    assert [("credit", "promo", 50), ("charge", "small", -20)] == [
        (line.kind, line.subject, line.amount_nusd) for line in found.lines
    ]


async def test_debt_counts_against_the_balance(wallet: Wallet) -> None:
    await wallet.pay("pi_1", 1_000)
    await use(wallet, "small", 4 * USD)
    await wallet.tell("charge.refunded", charge("pi_1", 1_000, 1_000))
    await wallet.pay("pi_2", 100)

    found = await invoice_of(wallet, "2025-10")

    assert -3 * USD == found.closing_nusd == -(await wallet.has())[1]


async def test_accounts_do_not_see_each_other(wallet: Wallet) -> None:
    await wallet.pay("pi_1", 1_000, "b")
    await use(wallet, "small", 5, account_id="b")

    assert [] == await wallet.store.invoices("a")
    assert await wallet.store.invoice("a", "2025-10") is None
    assert await wallet.store.invoice("b", "2025-09") is None
    assert await wallet.store.invoice("b", "nothing") is None
