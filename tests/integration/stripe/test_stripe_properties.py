"""Whatever Stripe does and whenever a process dies, what it took is what was credited."""

import asyncio
import shutil
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.db import upgrade
from services.payment.room import MIGRATIONS
from services.payment.store_tables import METADATA
from services.payment.stripe.rules import CENT_NUSD
from tests.fakes.stripe_server import StripeServer, open_stripe_server
from tests.unit.payment.stripe.wallet import DAY_S, Wallet, open_wallet

USD: Final = 100 * CENT_NUSD
FAULTS: Final = ("", "drop", "error", "refuse", "conflict", "processing", "decline")


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wallet") / "migrated.db"
    asyncio.run(upgrade(f"sqlite+aiosqlite:///{path}", MIGRATIONS, METADATA))
    return path


async def _turn(wallet: Wallet, _stripe: StripeServer, _number: int) -> None:
    await wallet.charger.turn()


async def _two_turns(wallet: Wallet, _stripe: StripeServer, _number: int) -> None:
    await asyncio.gather(wallet.charger.turn(), wallet.charger.turn())


async def _die(wallet: Wallet, _stripe: StripeServer, _number: int) -> None:
    """Let Stripe be asked by somebody who is gone before the answer can be written down."""
    charge = await wallet.store.begin_charge("a")
    if charge is not None and wallet.cards is not None:
        await asyncio.gather(wallet.cards.charge(charge), return_exceptions=True)


async def _wait(wallet: Wallet, _stripe: StripeServer, number: int) -> None:
    wallet.rig.clock.advance((6, 200, 3_700, DAY_S)[number % 4])


async def _hook(wallet: Wallet, stripe: StripeServer, number: int) -> None:
    made = list(stripe.intents.values())
    kinds = {
        "succeeded": "payment_intent.succeeded",
        "requires_payment_method": "payment_intent.payment_failed",
    }
    if made and (kind := kinds.get(made[number % len(made)]["status"])):
        await wallet.tell(kind, made[number % len(made)])


async def _use(wallet: Wallet, _stripe: StripeServer, number: int) -> None:
    has, owes = await wallet.has()
    if has and not owes:
        await wallet.use(1 + (has - 1) * number // 9)


async def _succeed(_wallet: Wallet, stripe: StripeServer, _number: int) -> None:
    for one in stripe.intents.values():
        if one["status"] == "processing":
            stripe.succeed(one["id"])


STEPS: Final = {
    "turn": _turn,
    "two turns": _two_turns,
    "die": _die,
    "wait": _wait,
    "hook": _hook,
    "use": _use,
    "succeed": _succeed,
}
PLAYS: Final = st.lists(
    st.tuples(st.sampled_from(list(STEPS)), st.sampled_from(FAULTS), st.integers(0, 9)),
    max_size=14,
)


@settings(max_examples=25, deadline=None)
@given(play=PLAYS, is_postpaid=st.booleans())
@pytest.mark.timeout(180)
def test_row_20_what_stripe_took_is_what_was_credited(
    migrated: Path, play: list[tuple[str, str, int]], is_postpaid: bool
) -> None:
    asyncio.run(_played(migrated, play, is_postpaid=is_postpaid))


async def _played(migrated: Path, play: list[tuple[str, str, int]], *, is_postpaid: bool) -> None:
    with TemporaryDirectory() as folder:
        path = shutil.copy(migrated, Path(folder) / "ledger.db")
        async with (
            open_stripe_server() as stripe,
            open_wallet(
                f"sqlite+aiosqlite:///{path}", is_migrated=True, stripe_url=stripe.url
            ) as wallet,
        ):
            await wallet.with_card()
            await wallet.use(USD)
            if is_postpaid:
                await wallet.store.set_postpaid("a", is_postpaid=True)
            else:
                await wallet.store.set_recharge("a", below_nusd=USD, cents=150, day_cents=1_000)
            for step, fault, number in play:
                stripe.faults.append(fault)
                await STEPS[step](wallet, stripe, number)
                await _check(wallet, stripe)
            await _settle(wallet, stripe)


async def _check(wallet: Wallet, stripe: StripeServer) -> None:
    """No charge was made twice, and nothing was credited that Stripe did not take."""
    numbers = Counter(one["metadata"]["turnpike_charge"] for one in stripe.intents.values())
    assert set(numbers.values()) <= {1}
    assert await _credited(wallet) <= _taken(stripe)


async def _settle(wallet: Wallet, stripe: StripeServer) -> None:
    """Once Stripe answers again, everything is known."""
    stripe.faults.clear()
    await wallet.store.set_recharge("a", below_nusd=0, cents=0, day_cents=0)
    await _succeed(wallet, stripe, 0)
    for _ in range(3):
        wallet.rig.clock.advance(61)
        await wallet.charger.turn()
        stripe.faults.clear()

    assert await _credited(wallet) == _taken(stripe)
    assert not (await wallet.store.account("a"))[2]
    assert (await wallet.rig.verify()).is_clean


async def _credited(wallet: Wallet) -> int:
    """Return what was credited from cards, cents, but for the first payment."""
    balances = await wallet.rig.balances()
    return -balances["funding:stripe"] // CENT_NUSD - 100


def _taken(stripe: StripeServer) -> int:
    made = stripe.intents.values()
    return sum(one["amount"] for one in made if one["status"] == "succeeded")
