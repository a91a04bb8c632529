"""`turnpike payouts` and promotional credit, from the command line to the ledger of a real room."""

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
from app.admin_client import BESIDE, SERVICES
from app.cli import app
from app.settings_sections import AdminSettings
from kit.rpc.local import HandlerTable, LocalChannel
from kit.rpc.transcode import Transcoder
from services.payment.proof.roots_file import RootsFile
from services.payment.proof.servicer import ReceiptServicer
from services.payment.proof.settings import ProofSettings
from services.payment.proof.store import ProofStore
from services.payment.servicer import PaymentServicer
from services.payment.suppliers.servicer import SuppliersServicer
from services.payment.suppliers.store import SuppliersStore
from services.payment.verify import Verifier
from tests.fakes.rooms import FakeAuth
from tests.unit.payment.rig import Rig, costly, open_rig, outcome, shared
from turnpike.auth.v1.auth_pb2_grpc import add_AuthServiceServicer_to_server
from turnpike.payment.v1.payment_pb2_grpc import add_PaymentServiceServicer_to_server
from turnpike.payment.v1.receipts_pb2_grpc import add_ReceiptServiceServicer_to_server
from turnpike.payment.v1.suppliers_pb2_grpc import add_SuppliersServiceServicer_to_server

TOKEN = "token-of-the-test"
USD = 1_000_000_000
EVENT = "=r1"


@dataclass
class Shell:
    """Runs commands against a room; what was answered last is in `out` and `err`."""

    rig: Rig
    out: str = ""
    err: str = ""

    async def run(self, *arguments: str) -> int:
        found = await asyncio.to_thread(CliRunner().invoke, app, list(arguments))
        self.out, self.err = found.stdout, found.stderr
        return found.exit_code

    async def json(self, *arguments: str) -> Any:
        code = await self.run(*arguments, "--json")
        assert 0 == code, self.err
        return json.loads(self.out)

    async def rows(self, *arguments: str) -> list[dict[str, str]]:
        code = await self.run(*arguments, "--csv")
        assert 0 == code, self.err
        return list(csv.DictReader(io.StringIO(self.out)))


@pytest.fixture
async def shell(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Shell]:
    monkeypatch.chdir(tmp_path)
    async with open_rig(sqlite_url) as rig:
        table = HandlerTable()
        server: Any = table
        leases: Any = None  # nothing here leases
        verifier = Verifier(rig.store, rig.metering, settings=rig.settings)  # type: ignore[arg-type]
        ledger = PaymentServicer(rig.store, leases, verifier, settings=rig.settings)
        add_PaymentServiceServicer_to_server(ledger, server)
        suppliers = SuppliersServicer(SuppliersStore(rig.transactions, clock=rig.clock))
        add_SuppliersServiceServicer_to_server(suppliers, server)
        add_ReceiptServiceServicer_to_server(_receipts(rig, tmp_path), server)
        add_AuthServiceServicer_to_server(FakeAuth(), server)
        beside = [BESIDE[name][1] for name in ("suppliers", "receipts")]
        names = [SERVICES["auth"], SERVICES["payment"], *beside]
        async with open_admin(
            AdminSettings(token=SecretStr(TOKEN)),
            port=0,
            transcoder=Transcoder(dict.fromkeys(names, LocalChannel(table))),
            registry=CollectorRegistry(),
            readiness=lambda: True,
        ) as port:
            note = tmp_path / ".turnpike" / "first-run.json"
            note.parent.mkdir()
            address = f"127.0.0.1:{port.port}"
            note.write_text(json.dumps({"admin_address": address, "admin_token": TOKEN}))
            with capture_logs():
                yield Shell(rig)


def _receipts(rig: Rig, folder: Path) -> ReceiptServicer:
    """Return receipts without a key: nothing is signed."""
    return ReceiptServicer(
        ProofStore(rig.transactions),
        signer=None,
        file=RootsFile(folder / "roots.jsonl"),
        clock=rig.clock,
        settings=ProofSettings(),
    )


@pytest.fixture
async def sold(shell: Shell) -> Shell:
    """A shell after two sales of a supplier's and one that a provider is owed for."""
    rig = shell.rig
    await rig.credit("a", 100 * USD)
    lease_id, _ = await rig.lease("a", 50 * USD)
    await rig.settle(
        shared(outcome(EVENT, lease_id, hold_nusd=9 * USD, charge_nusd=2 * USD)),
        shared(outcome("r2", lease_id, hold_nusd=9 * USD, charge_nusd=USD)),
        costly(outcome("r3", lease_id, hold_nusd=9 * USD, charge_nusd=5), 7),
    )
    return shell


async def test_list_says_what_was_earned_paid_and_is_owed(sold: Shell) -> None:
    assert 0 == await sold.run(
        "payouts", "pay", "acme", "1.5", "--rail", "bank", "--reference", "t1"
    )
    assert "$1.50; $1.20 is owed." in sold.out

    rows = await sold.rows("payouts", "list")

    assert [
        {"payee": "provider:bought", "earned": "0.000000007", "paid": "0.00",
         "owed": "0.000000007"},
        {"payee": "supplier:acme", "earned": "2.70", "paid": "1.50", "owed": "1.20"},
    ] == rows  # fmt: skip


async def test_all_pays_what_is_owed_and_then_nothing_is(sold: Shell) -> None:
    wish = ("payouts", "pay", "provider:bought", "all", "--rail", "bank")

    answer = await sold.json(*wish, "--reference", "t1")

    assert ("7", "0") == (answer["payout"]["amount_nusd"], answer["owed_nusd"])
    assert 1 == await sold.run(*wish, "--reference", "t2")
    assert "Nothing is owed to provider:bought." in sold.err
    assert (await sold.rig.verify()).is_clean


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("acme", "3", "--rail", "bank", "--reference", "t"), "2700000000 is owed"),
        (("acme", "1", "--rail", "Bank", "--reference", "t"), "rail must be"),
        (("acme", "1", "--rail", "bank", "--reference", ""), "reference is required"),
        (("a:b", "1", "--rail", "bank", "--reference", "t"), "payee_id must look like"),
        (("acme", "0", "--rail", "bank", "--reference", "t"), "must be more than zero"),
        (("acme", "x", "--rail", "bank", "--reference", "t"), "not a number"),
        (("nobody", "all", "--rail", "bank", "--reference", "t"), "Nothing is owed"),
    ],
)
async def test_payout_that_cannot_be_booked_is_one_line(
    sold: Shell, arguments: tuple[str, ...], says: str
) -> None:
    before = await sold.rig.balances()

    assert 1 == await sold.run("payouts", "pay", *arguments)

    assert says in sold.err
    assert before == await sold.rig.balances()


async def test_show_lists_payouts_or_what_each_request_earned(sold: Shell) -> None:
    await sold.run("payouts", "pay", "acme", "1", "--rail", "tempo", "--reference", "0xabc")

    (paid,) = await sold.rows("payouts", "show", "acme")
    earned = await sold.rows("payouts", "show", "acme", "--earnings")

    assert ("1.00", "tempo", "0xabc") == (paid["amount"], paid["rail"], paid["reference"])
    assert [("'=r1:outcome", "2.00", "1000", "1.80"), ("r2:outcome", "1.00", "1000", "0.90")] == [
        (row["event"], row["paid"], row["fee_bps"], row["earned"]) for row in earned
    ]
    bought = await sold.rows("payouts", "show", "provider:bought", "--earnings")
    assert [("", "0.000000007")] == [(row["fee_bps"], row["earned"]) for row in bought]


async def test_span_of_time_bounds_earnings_and_costs(sold: Shell) -> None:
    future = ("--since", "2100-01-01")

    assert [] == await sold.rows("payouts", "show", "acme", "--earnings", *future)
    assert [] == await sold.rows("payouts", "costs", *future)
    assert 1 == await sold.run("payouts", "show", "acme", *future)
    assert "--since and --until are for --earnings" in sold.err


async def test_costs_are_held_against_revenue(sold: Shell) -> None:
    rows = await sold.rows("payouts", "costs")

    assert [("bought", "", "0.000000005", "0.000000007", "-0.000000002"),
            ("lent", "acme", "3.00", "2.70", "0.30")] == [
        (row["provider"], row["supplier"], row["revenue"], row["cost"], row["margin"])
        for row in rows
    ]  # fmt: skip
    answer = await sold.json("payouts", "costs", "--limit", "1")
    assert ["bought"] == [row["provider"] for row in answer["summaries"]]


async def test_tables_are_for_people(sold: Shell) -> None:
    assert 0 == await sold.run("payouts", "list")
    assert "supplier:acme\t2.70\t0.00\t2.70" in sold.out


async def test_promo_is_given_with_an_end_and_shown(shell: Shell) -> None:
    await shell.run("accounts", "create", "me")

    answer = await shell.json(
        "accounts", "credit", "me", "5", "--source", "promo", "--expires", "30d"
    )

    assert str(5 * USD) == answer["balance"]["promo_nusd"]
    assert 0 == await shell.run("ledger", "balance", "me")
    assert "promo\t$5.00" in shell.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--expires", "30d"), "expire_time is for credit of source promo alone"),
        (("--expires", "soon", "--source", "promo"), "soon is no time"),
        (("--expires", "1960-01-01", "--source", "promo"), "expire_time must be between"),
    ],
)
async def test_end_that_makes_no_sense_is_refused(
    shell: Shell, arguments: tuple[str, ...], says: str
) -> None:
    await shell.run("accounts", "create", "me")

    assert 1 == await shell.run("accounts", "credit", "me", "5", *arguments)

    assert says in shell.err


async def test_verification_says_what_others_are_owed(sold: Shell) -> None:
    assert 0 == await sold.run("ledger", "verify"), sold.out

    assert "$2.700000007 owed to suppliers and providers by 3 earnings" in sold.out
    assert "$0.00 owed by customers" in sold.out
