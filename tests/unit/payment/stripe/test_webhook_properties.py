"""Any order and any number of deliveries of the same webhooks gives the same balances."""

import asyncio
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.db import upgrade
from services.payment.room import MIGRATIONS
from services.payment.store_tables import METADATA
from services.payment.stripe.events import read_event
from tests.fakes.stripe_server import event
from tests.unit.payment.stripe.wallet import (
    Wallet,
    charge,
    dispute,
    intent,
    open_wallet,
    refund,
    session,
)

ACCOUNTS = ("a", "b")
Told = tuple[str, dict[str, Any]]


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wallet") / "migrated.db"
    asyncio.run(upgrade(f"sqlite+aiosqlite:///{path}", MIGRATIONS, METADATA))
    return path


@st.composite
def stories(draw: st.DrawFn) -> list[Told]:
    """Return what Stripe tells of a few payments, in the order in which it happens."""
    told: list[Told] = []
    for number in range(draw(st.integers(1, 3))):
        name, account = f"pi_{number}", draw(st.sampled_from(ACCOUNTS))
        cents = draw(st.integers(1, 5_000))
        told.append(("payment_intent.succeeded", intent(name, cents, account)))
        if draw(st.booleans()):
            told.append(("checkout.session.completed", session(name, cents, account)))
        done = 0
        for part in range(draw(st.integers(0, 3))):
            amount = draw(st.integers(1, max(1, cents // 3)))
            done = min(cents, done + amount)
            told.append(("charge.refunded", charge(name, cents, done, account)))
            told.append(("refund.created", refund(f"re_{number}_{part}", name, amount)))
            if draw(st.booleans()):
                told.append(
                    ("refund.failed", refund(f"re_{number}_{part}", name, amount, "failed"))
                )
        if draw(st.booleans()):
            told.append(
                ("charge.dispute.created", dispute(f"dp_{number}", name, cents, "needs_response"))
            )
            end = draw(st.sampled_from(["needs_response", "won", "lost"]))
            told.append(("charge.dispute.closed", dispute(f"dp_{number}", name, cents, end)))
    return told


@settings(max_examples=40, deadline=None)
@given(told=stories(), data=st.data())
def test_row_21_any_order_and_multiplicity_gives_the_same_balances(
    migrated: Path, told: list[Told], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(range(len(told))))
    repeats = data.draw(st.lists(st.integers(0, len(told) - 1), max_size=6))

    straight = asyncio.run(_balances(migrated, told, list(range(len(told)))))
    mixed = asyncio.run(_balances(migrated, told, [*shuffled, *repeats]))

    assert straight == mixed


async def _balances(migrated: Path, told: list[Told], order: list[int]) -> dict[str, int]:
    with TemporaryDirectory() as folder:
        path = shutil.copy(migrated, Path(folder) / "ledger.db")
        async with open_wallet(f"sqlite+aiosqlite:///{path}", is_migrated=True) as wallet:
            await _deliver(wallet, told, order)
            found = await wallet.rig.balances()
            assert (await wallet.rig.verify()).is_clean
            assert (0, len(found)) == await wallet.rig.store.rebuild()
            return {name: amount for name, amount in found.items() if amount}


async def _deliver(wallet: Wallet, told: list[Told], order: list[int]) -> None:
    for number in order:
        kind, about = told[number]
        await wallet.intake.take(read_event(event(kind, about, event_id=f"evt_{number}")))


@settings(max_examples=15, deadline=None)
@given(told=stories(), data=st.data())
def test_row_17_webhooks_in_parallel_give_the_same_balances(
    migrated: Path, told: list[Told], data: st.DataObject
) -> None:
    order = data.draw(st.permutations([*range(len(told)), *range(len(told))]))

    async def together() -> dict[str, int]:
        with TemporaryDirectory() as folder:
            path = shutil.copy(migrated, Path(folder) / "ledger.db")
            async with open_wallet(f"sqlite+aiosqlite:///{path}", is_migrated=True) as wallet:
                await asyncio.gather(*(_deliver(wallet, told, [number]) for number in order))
                found = await wallet.rig.balances()
                return {name: amount for name, amount in found.items() if amount}

    straight = asyncio.run(_balances(migrated, told, list(range(len(told)))))

    assert straight == asyncio.run(together())
