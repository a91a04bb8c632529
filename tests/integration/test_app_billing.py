"""`turnpike billing` against a real admin port and a Stripe that is asked over HTTP."""

import asyncio
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
from app.admin_client import BESIDE
from app.cli import app
from app.settings_sections import AdminSettings
from kit.rpc.local import HandlerTable, LocalChannel
from kit.rpc.transcode import Transcoder
from tests.fakes.rooms import FakeRooms
from tests.fakes.stripe_server import StripeServer, open_stripe_server
from tests.unit.payment.stripe.wallet import Wallet, open_wallet
from turnpike.auth.v1 import auth_pb2
from turnpike.payment.v1 import billing_pb2_grpc

TOKEN = "token-of-the-test"


@dataclass
class Shell:
    """Runs commands; what was answered last is in `out`."""

    wallet: Wallet
    stripe: StripeServer
    out: str = ""

    async def run(self, *arguments: str) -> int:
        found = await asyncio.to_thread(CliRunner().invoke, app, ["billing", *arguments])
        self.out = found.stdout + found.stderr
        return found.exit_code

    async def json(self, *arguments: str) -> Any:
        assert 0 == await self.run(*arguments, "--json"), self.out
        return json.loads(self.out)

    async def pay(self, cents: str = "10.00") -> str:
        """Pay for a top-up of the account by a link, and return the payment."""
        page = await self.json("checkout", "acme", cents)
        _, paid = self.stripe.pay_session(page["session_id"])
        await self.wallet.tell("payment_intent.succeeded", paid)
        return str(paid["id"])


@pytest.fixture
async def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shell]:
    monkeypatch.chdir(tmp_path)
    rooms = FakeRooms()
    rooms.auth.accounts.append(auth_pb2.Account(account_id="a", name="acme"))
    async with (
        open_stripe_server() as stripe,
        open_wallet(f"sqlite+aiosqlite:///{tmp_path}/wallet.db", stripe_url=stripe.url) as wallet,
    ):
        table = HandlerTable()
        billing_pb2_grpc.add_BillingServiceServicer_to_server(wallet.servicer, table)  # type: ignore[arg-type]
        channels = {**rooms.channels, BESIDE["billing"][1]: LocalChannel(table)}
        async with open_admin(
            AdminSettings(token=SecretStr(TOKEN)),
            port=0,
            transcoder=Transcoder(channels),
            registry=CollectorRegistry(),
            readiness=lambda: True,
        ) as port:
            monkeypatch.setenv("TURNPIKE__ADMIN__TOKEN", TOKEN)
            monkeypatch.setenv("TURNPIKE__ADMIN__PORT", str(port.port))
            with capture_logs():
                yield Shell(wallet, stripe)


async def test_checkout_prints_a_link(shell: Shell) -> None:
    assert 0 == await shell.run("checkout", "acme", "10.00")

    (name,) = shell.stripe.sessions
    assert f"https://checkout.stripe.com/c/pay/{name}" == shell.out.strip()
    assert 1_000 == shell.stripe.sessions[name]["amount_total"]


@pytest.mark.parametrize("amount", ["ten", "0", "0.001", "0.99", "-1"])
async def test_amount_that_cannot_be_is_one_line(shell: Shell, amount: str) -> None:
    assert 0 != await shell.run("checkout", "acme", "--", amount)

    assert {} == shell.stripe.sessions
    assert 1 == shell.out.count("turnpike: ")


async def test_account_is_shown_with_its_card_and_limit(shell: Shell) -> None:
    await shell.pay()

    assert 0 == await shell.run("show", "acme")
    prepaid = shell.out
    assert 0 == await shell.run("postpaid", "acme", "--on")
    postpaid = shell.out
    found = await shell.json("postpaid", "acme", "--off")

    assert "card\tsaved" in prepaid
    assert "available\t$10.00" in prepaid
    assert "credit limit\t$2.00" in postpaid
    assert "0" == found["billing"]["credit_limit_nusd"]


async def test_payment_is_listed_and_given_back(shell: Shell) -> None:
    payment = await shell.pay()

    assert 0 == await shell.run("refund", payment, "2.50")
    assert "$2.50 given back" in shell.out
    assert 0 == await shell.run("payments", "acme")
    assert f"{payment}\t$10.00\t$2.50" in shell.out
    assert 0 == await shell.run("refund", payment)
    assert "$7.50 given back" in shell.out
    assert 1 == await shell.run("refund", payment)
    assert (0, 0) == await shell.wallet.has_cents()


async def test_refund_without_an_answer_says_how_to_ask_again(shell: Shell) -> None:
    payment = await shell.pay()
    shell.stripe.faults.append("drop")

    assert 1 == await shell.run("refund", payment, "2.50")
    again = shell.out.partition("--request-id ")[2].partition(")")[0]
    assert 0 == await shell.run("refund", payment, "2.50", "--request-id", again)

    assert 1 == len(shell.stripe.refunds)


async def test_invoice_is_shown_whole_and_months_are_listed(shell: Shell) -> None:
    payment = await shell.pay()
    await shell.wallet.use(5)

    assert 0 == await shell.run("invoice", "acme")
    months = shell.out
    assert 0 == await shell.run("invoice", "acme", "2025-10")
    shown = shell.out
    found = await shell.json("invoice", "acme", "2025-10")

    assert "2025-10\t$0.00\t$10.00\t$0.000000005\t$0.00\t$0.00\t$9.999999995" in months
    assert "closing\t\t\t$9.999999995" in shown
    references = {line["reference"] for line in found["invoice"]["lines"]}
    assert {payment, ""} == references
    assert 1 == await shell.run("invoice", "acme", "2020-01")
