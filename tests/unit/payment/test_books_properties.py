"""What must hold for any traffic, in any order, delivered any number of times."""

import asyncio
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.db import upgrade
from services.payment.room import MIGRATIONS
from services.payment.store_tables import METADATA
from tests.unit.payment.play import Turn, play
from tests.unit.payment.rig import open_rig

_TURNS = st.lists(
    st.tuples(st.integers(0, 17), st.integers(0, 50), st.integers(0, 300), st.integers(0, 300)),
    min_size=5,
    max_size=40,
)


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ledger") / "migrated.db"
    asyncio.run(upgrade(f"sqlite+aiosqlite:///{path}", MIGRATIONS, METADATA))
    return path


@settings(max_examples=30, deadline=None)
@given(turns=_TURNS)
def test_any_traffic_keeps_the_books_clean_and_a_replay_changes_nothing(
    migrated: Path, turns: list[Turn]
) -> None:
    asyncio.run(_scenario(migrated, turns))


async def _scenario(migrated: Path, turns: list[Turn]) -> None:
    with TemporaryDirectory() as folder:
        path = shutil.copy(migrated, Path(folder) / "ledger.db")
        async with open_rig(f"sqlite+aiosqlite:///{path}", is_migrated=True) as rig:
            delivered = await play(rig, turns)
            before = await rig.balances()
            proof = await rig.verify()

            for parcel in delivered:
                await rig.deliver(parcel)

            assert [] == list(proof.findings)
            assert proof.charged_nusd <= _held_in_all(delivered)
            assert before == await rig.balances()
            assert (0, len(before)) == await rig.store.rebuild()


def _held_in_all(delivered: list) -> int:  # type: ignore[type-arg]
    holds = {
        event.request_id: event.hold_nusd for parcel in delivered for event in parcel.batch.events
    }
    return sum(holds.values())
