"""The signer: what a crash leaves between the database and the file is made good."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kit.tasks import background
from services.payment.proof.roots import read_line
from services.payment.proof.roots_file import RootsFile
from services.payment.proof.settings import ProofSettings
from services.payment.proof.signer import RootSigner
from services.payment.proof.store import ProofStore, Signed
from services.payment.proof.tables import roots
from services.payment.store_engine import Transactions
from tests.fixtures.gateway import until
from tests.unit.payment.proof.bill_rig import SIGNER, checked, priced, root_signer, signed
from tests.unit.payment.proof.tampering import drop_guards
from tests.unit.payment.rig import Rig, open_rig


class BrokenFile(RootsFile):
    """A file whose disk is full when a line is to be added; part of it is written."""

    def append(self, line: str) -> None:
        with self._path.open("ab") as file:
            file.write(line.encode()[:20])
        raise OSError("No space left on device")


class OvertakenStore(ProofStore):
    """A store of a replica that another one overtakes whenever it looks for what to sign."""

    def __init__(self, ledger: Transactions, other: RootSigner) -> None:
        super().__init__(ledger)
        self._other = other

    async def signed(self) -> Signed:
        await self._other.sign_next()
        return await super().signed()


@pytest.fixture
async def rig(sqlite_url: str) -> AsyncIterator[Rig]:
    async with open_rig(sqlite_url) as opened:
        await opened.credit("a", 10_000_000)
        lease_id, _ = await opened.lease("a", 400_000)
        await opened.settle(*(priced(f"r{number}", lease_id) for number in range(9)))
        await opened.settle(priced("last", lease_id))
        yield opened


def numbers(lines: list[str]) -> list[int]:
    return [read_line(line)[0].number for line in lines]


async def test_root_that_the_file_missed_is_appended_at_the_next_start(
    rig: Rig, tmp_path: Path
) -> None:
    path = tmp_path / "roots.jsonl"
    await signed(rig, path, root_transactions_max=2)
    await rig.credit("a", 1)
    broken = RootSigner(
        ProofStore(rig.transactions),
        SIGNER,
        file=BrokenFile(path),
        clock=rig.clock,
        settings=ProofSettings(),
    )
    with pytest.raises(OSError, match="No space"):
        await broken.sign_next()

    lines = await signed(rig, path)

    assert [1, 2, 3] == numbers(lines)
    assert [] == (await checked(rig, lines)).findings


async def test_lost_file_is_written_anew_as_it_was(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "roots.jsonl"
    before = await signed(rig, path, root_transactions_max=2)
    path.unlink()

    assert before == await signed(rig, path)


async def test_two_replicas_sign_each_root_once_and_both_files_have_all(
    rig: Rig, tmp_path: Path
) -> None:
    one = root_signer(rig, tmp_path / "one.jsonl", root_transactions_max=1)
    two = root_signer(rig, tmp_path / "two.jsonl", root_transactions_max=1)

    while any(await asyncio.gather(one.sign_next(), two.sign_next())):
        pass

    lines = [(tmp_path / f"{name}.jsonl").read_text().splitlines() for name in ("one", "two")]
    assert lines[0] == lines[1]
    assert [1, 2, 3, 4] == numbers(lines[0])
    assert 4 == one.root_count + two.root_count
    assert [] == (await checked(rig, lines[0])).findings


async def test_root_that_another_replica_signs_in_between_comes_first_in_the_file(
    rig: Rig, tmp_path: Path
) -> None:
    other = root_signer(rig, tmp_path / "other.jsonl", root_transactions_max=1)
    path = tmp_path / "roots.jsonl"
    settings = ProofSettings(root_transactions_max=1)
    signer = RootSigner(
        OvertakenStore(rig.transactions, other),
        SIGNER,
        file=RootsFile(path),
        clock=rig.clock,
        settings=settings,
    )

    while await signer.sign_next():
        pass

    lines = path.read_text().splitlines()
    assert [1, 2, 3, 4] == numbers(lines)
    assert 2 == other.root_count
    assert [] == (await checked(rig, lines)).findings


async def test_root_ends_with_the_transaction_that_fills_it(rig: Rig, tmp_path: Path) -> None:
    lines = await signed(rig, tmp_path / "roots.jsonl", root_receipts_max=5, read_max=2)

    spans = [read_line(line)[0].span for line in lines]
    assert [(1, 3), (4, 4)] == spans
    assert [9, 1] == [int(read_line(line)[0].fields["leaf_count"]) for line in lines]
    assert [] == (await checked(rig, lines)).findings


async def test_running_signer_keeps_up_and_waits_for_a_file_that_cannot_be_written(
    rig: Rig, tmp_path: Path
) -> None:
    path = tmp_path / "folder" / "roots.jsonl"
    (tmp_path / "folder").write_text("in the way")
    signer = root_signer(rig, path, root_s=0.01)

    async with background(signer.run, name="signer"):
        await until(lambda: signer.failure_count > 1)
        (tmp_path / "folder").unlink()
        await until(lambda: path.exists() and len(path.read_text().splitlines()) == 1)
        await rig.credit("a", 1)
        await until(lambda: len(path.read_text().splitlines()) == 2)

    assert 2 == signer.root_count


async def test_clock_that_was_set_back_moves_nothing_into_a_signed_day(
    rig: Rig, tmp_path: Path
) -> None:
    path = tmp_path / "roots.jsonl"
    await signed(rig, path)
    rig.clock.advance(86_400.0)
    await signed(rig, path)
    rig.clock.advance(-86_400.0)
    await rig.credit("a", 1)

    lines = await signed(rig, path)

    days = [int(read_line(line)[0].fields["day"]) for line in lines]
    assert [days[0], days[0], days[0] + 1] == days
    assert [] == (await checked(rig, lines)).findings


async def test_nothing_is_signed_behind_roots_that_the_database_lost(
    rig: Rig, tmp_path: Path
) -> None:
    path = tmp_path / "roots.jsonl"
    before = await signed(rig, path, root_transactions_max=2)
    await rig.transactions.write(drop_guards)
    await rig.transactions.write(
        lambda connection: connection.execute(roots.delete().where(roots.c.number > 1))
    )

    with pytest.raises(ValueError, match="The file has root 2; the database has 1"):
        await root_signer(rig, path).sign_next()

    assert before == path.read_text().splitlines()


async def test_line_of_nothing_known_stops_the_file_and_is_counted(
    rig: Rig, tmp_path: Path
) -> None:
    path = tmp_path / "roots.jsonl"
    path.write_text("{}\n")

    with pytest.raises(ValueError, match="transactions is missing"):
        await root_signer(rig, path).sign_next()

    assert "{}\n" == path.read_text()
