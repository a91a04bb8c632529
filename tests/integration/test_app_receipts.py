"""The bill by the command line: exported from a running room, proven without one."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from structlog.testing import capture_logs
from typer.testing import CliRunner

from app.admin import open_admin
from app.cli import app
from app.settings_sections import AdminSettings
from kit.rpc.transcode import Transcoder
from services.payment.proof.roots_file import RootsFile
from services.payment.proof.servicer import ReceiptServicer
from services.payment.proof.settings import ProofSettings
from services.payment.proof.store import ProofStore
from tests.fakes.rooms import FakeRooms
from tests.unit.payment.proof.bill_rig import SIGNER, priced, signed
from tests.unit.payment.proof.tampering import drop_guards, edit_receipt, rehash
from tests.unit.payment.rig import Rig, open_rig

TOKEN = "token-of-the-test"


@dataclass
class Shell:
    """Runs commands against an admin port with a real receipt service behind it."""

    rig: Rig
    account_id: str
    folder: Path
    out: str = ""
    err: str = ""

    async def run(self, *arguments: str) -> int:
        found = await asyncio.to_thread(CliRunner().invoke, app, list(arguments))
        self.out, self.err = found.stdout, found.stderr
        return found.exit_code

    async def export(self) -> Path:
        assert 0 == await self.run("receipts", "export", "--account", "acme"), self.err
        path = self.folder / "bill.jsonl"
        path.write_text(self.out)
        return path

    async def verify(self, path: Path, key: str = SIGNER.public_key) -> int:
        return await self.run("receipts", "verify", str(path), "--key", key)


@pytest.fixture
async def shell(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Shell]:
    monkeypatch.chdir(tmp_path)
    roots = RootsFile(tmp_path / "roots.jsonl")
    async with open_rig(sqlite_url) as rig:
        servicer = ReceiptServicer(
            ProofStore(rig.transactions),
            signer=SIGNER,
            file=roots,
            clock=rig.clock,
            settings=ProofSettings(),
        )
        rooms = FakeRooms(servicer)
        async with open_admin(
            AdminSettings(token=SecretStr(TOKEN)),
            port=0,
            transcoder=Transcoder(rooms.channels),
            registry=CollectorRegistry(),
            readiness=lambda: True,
        ) as admin:
            monkeypatch.setenv("TURNPIKE__ADMIN__PORT", str(admin.port))
            monkeypatch.setenv("TURNPIKE__ADMIN__TOKEN", TOKEN)
            shell = Shell(rig, "", tmp_path)
            with capture_logs():
                assert 0 == await shell.run("accounts", "create", "acme", "--json")
                shell.account_id = json.loads(shell.out)["account"]["account_id"]
                await _spend(shell)
                yield shell


async def _spend(shell: Shell) -> None:
    rig, account_id = shell.rig, shell.account_id
    await rig.credit(account_id, 10_000_000)
    lease_id, _ = await rig.lease(account_id, 4_000_000)
    for number in range(3):
        await rig.settle(
            *(
                priced(
                    f"r{number}-{place}",
                    lease_id,
                    account_id=account_id,
                    is_refunded=place == 1,
                )
                for place in range(50)
            )
        )
    await signed(rig, shell.folder / "roots.jsonl")


async def test_bill_as_a_table_has_every_receipt_and_adds_up(shell: Shell) -> None:
    lines = [json.loads(line) for line in (await shell.export()).read_text().splitlines()]
    made = [line for line in lines if line["type"] == "receipt"]

    assert 0 == await shell.run("receipts", "export", "--account", "acme", "--csv"), shell.err

    rows = [*csv.DictReader(io.StringIO(shell.out))]
    assert [{**line["receipt"], "hash": line["hash"]} for line in made] == rows
    for name in ("charged_nusd", "refunded_nusd"):
        assert lines[-1][name] == str(sum(int(row[name]) for row in rows))


async def test_exported_bill_is_proven_by_the_key_alone(shell: Shell) -> None:
    path = await shell.export()
    assert 0 == await shell.run("receipts", "key")
    key_path = shell.folder / "key.hex"
    key_path.write_text(shell.out)

    code = await shell.verify(path, str(key_path))

    assert 0 == code, shell.out
    assert (
        f"clean: 153 receipts of {shell.account_id}, 153 of them signed by 1 roots,"
        " $0.00116265 charged, $0.000023253 given back.\n"
    ) == shell.out


async def test_bill_of_another_key_is_not_proven(shell: Shell) -> None:
    path = await shell.export()

    code = await shell.verify(
        path, "5866666666666666666666666666666666666666666666666666666666666666"
    )

    assert 1 == code
    assert "is not one of those that are trusted" in shell.out


async def test_what_is_no_key_and_no_file_is_one_line(shell: Shell) -> None:
    path = await shell.export()

    assert 1 == await shell.verify(path, "nonsense")
    assert "turnpike: --key: A public key is 64 hexadecimal digits.\n" == shell.err
    assert 1 == await shell.verify(shell.folder / "absent")
    assert shell.err.startswith("turnpike: ")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: lines[:-1], "cut off"),
        (lambda lines: [*lines[:5], *lines[6:]], "does not follow the one before"),
        (lambda lines: [*lines[:5], lines[6], lines[5], *lines[7:]], "Expected receipt 4 here"),
        (lambda lines: lines[1:], "names the account"),
        (lambda lines: [lines[0], *lines[2:]], "leads to no root"),
        (lambda lines: [*lines, lines[2]], "more behind the sums"),
        (lambda lines: [*lines[:3], "{", *lines[3:]], "line 4: "),
        (lambda lines: [*lines[:3], '{"type":"x"}', *lines[3:]], "of a type that is unknown"),
    ],
)
async def test_bill_that_lost_or_moved_a_line_is_not_proven(
    shell: Shell, change: Any, said: str
) -> None:
    path = await shell.export()
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")

    assert 1 == await shell.verify(path)
    assert said in shell.out


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("charge_nusd", "7750", "Price times tokens is 7751 nUSD; the charge is 7750"),
        ("prompt_token_count", "8", "Price times tokens is 8001 nUSD"),
        ("output_pusd_per_token", "1", "price version"),
        ("model_id", "other", "The hash does not follow"),
        ("account_id", "b", "It is of the account b"),
        ("refunded_nusd", "1", "A charge gives nothing back"),
        ("charged_nusd", "-1", "charged_nusd is not a whole number"),
    ],
)
async def test_bill_with_a_changed_figure_is_not_proven(
    shell: Shell, name: str, value: str, said: str
) -> None:
    path = await shell.export()
    lines = path.read_text().splitlines()
    members = json.loads(lines[4])
    members["receipt"][name] = value
    lines[4] = json.dumps(members)
    path.write_text("\n".join(lines) + "\n")

    assert 1 == await shell.verify(path)
    assert said in shell.out


async def test_forged_bill_that_adds_up_leads_to_no_root(shell: Shell) -> None:
    account_id = shell.account_id
    tokens = {"prompt_token_count": "8", "charge_nusd": "8001", "charged_nusd": "8001"}
    write = shell.rig.transactions.write
    await write(drop_guards)
    await write(lambda connection: edit_receipt(connection, account_id, 1, **tokens))
    await write(rehash)
    path = await shell.export()

    assert 1 == await shell.verify(path)
    assert "line 3: Receipt 1 of request r0-0: Its proof does not lead to root 1." in shell.out


async def test_ledger_is_verified_with_the_own_file_and_with_a_copy(shell: Shell) -> None:
    copy = shell.folder / "copy.jsonl"
    copy.write_text((shell.folder / "roots.jsonl").read_text())

    assert 0 == await shell.run("ledger", "verify")
    own = shell.out
    assert 0 == await shell.run("ledger", "verify", "--roots", str(copy))

    said = "1 signed roots cover 8 transactions and 153 receipts."
    assert said in own
    assert said in shell.out


async def test_ledger_that_was_rewritten_is_named_by_the_copy(shell: Shell) -> None:
    account_id = shell.account_id
    copy = shell.folder / "copy.jsonl"
    copy.write_text((shell.folder / "roots.jsonl").read_text())
    write = shell.rig.transactions.write
    await write(drop_guards)
    await write(lambda connection: edit_receipt(connection, account_id, 2, model_id="dearer"))
    await write(rehash)

    assert 1 == await shell.run("ledger", "verify", "--roots", str(copy), "--json")

    named = {(each["check"], each["subject"]) for each in json.loads(shell.out)["findings"]}
    assert {("receipt", f"{account_id}:2"), ("transaction", "3")} <= named


async def test_copy_that_cannot_be_read_is_one_line(shell: Shell) -> None:
    assert 1 == await shell.run("ledger", "verify", "--roots", "absent.jsonl")
    assert "turnpike: absent.jsonl cannot be read: No such file or directory.\n" == shell.err
