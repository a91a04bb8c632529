"""The command line against a real admin port with small rooms behind it."""

import asyncio
import json
import socket
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
from kit.ids import OPERATOR_ID
from kit.rpc.transcode import Transcoder
from tests.fakes.rooms import SECRET, FakeRooms
from turnpike.metering.v1.metering_pb2 import UsageRecord
from turnpike.payment.v1 import payment_pb2
from turnpike.type.v1.usage_pb2 import TokenUsage

TOKEN = "token-of-the-test"


@dataclass
class Shell:
    """Runs commands; what was answered last is in `out` and `err`."""

    rooms: FakeRooms
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


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
async def shell(empty_folder: Path) -> AsyncIterator[Shell]:
    rooms = FakeRooms()
    async with open_admin(
        AdminSettings(token=SecretStr(TOKEN)),
        port=0,
        transcoder=Transcoder(rooms.channels),
        registry=CollectorRegistry(),
        readiness=lambda: True,
    ) as port:
        note = empty_folder / ".turnpike" / "first-run.json"
        note.parent.mkdir()
        note.write_text(
            json.dumps({"admin_address": f"127.0.0.1:{port.port}", "admin_token": TOKEN})
        )
        with capture_logs():
            yield Shell(rooms)


async def test_key_is_made_with_credit_tier_models_and_dialect(shell: Shell) -> None:
    await shell.run("accounts", "create", "me")

    answer = await shell.json(
        "keys", "create", "--credit", "10.00", "--tier", "gold", "--models", "a,b", "--models", "c",
        "--dialect", "vram", "--requests-per-minute", "0",
    )  # fmt: skip

    request = shell.rooms.auth.requests[0]
    assert SECRET == answer["secret"]
    assert "10000000000" == answer["balance"]["available_nusd"]
    assert ("account-0", "gold", "vram") == (request.account_id, request.tier, request.dialect)
    assert ["a", "b", "c"] == list(request.models)
    assert request.HasField("requests_per_minute")
    assert not request.HasField("tokens_per_minute")
    assert request.request_id


async def test_key_is_made_with_a_limit_of_requests_at_once_and_strict(shell: Shell) -> None:
    await shell.run("accounts", "create", "me")

    await shell.run(
        "keys", "create", "--concurrency", "5", "--strict", "--scopes", "chat,chat_template"
    )
    await shell.run("keys", "create", "--concurrency", "0")
    await shell.run("keys", "create")

    limited, unlimited, usual = shell.rooms.auth.requests
    assert (5, True) == (limited.concurrent_requests, limited.is_strict)
    assert ["chat", "chat_template"] == list(limited.scopes)
    assert unlimited.HasField("concurrent_requests")
    assert not usual.HasField("concurrent_requests")
    assert not usual.is_strict


async def test_secret_stands_alone_on_standard_output(shell: Shell) -> None:
    await shell.run("accounts", "create", "me")

    code = await shell.run("keys", "create")

    assert (0, f"{SECRET}\n") == (code, shell.out)
    assert "not shown again" in shell.err


async def test_key_needs_an_account(shell: Shell) -> None:
    code = await shell.run("keys", "create")

    assert 1 == code
    assert "turnpike accounts create" in shell.err


async def test_account_is_found_by_name_or_id_and_doubts_are_refused(shell: Shell) -> None:
    for name in ("one", "two", "two"):
        await shell.run("accounts", "create", name)

    by_name = await shell.run("keys", "create", "--account", "one")
    by_id = await shell.run("keys", "create", "--account", "account-1")
    twice = await shell.run("keys", "create", "--account", "two")
    never = await shell.run("keys", "create", "--account", "three")

    assert [0, 0, 1, 1] == [by_name, by_id, twice, never]
    assert ["account-0", "account-1"] == [r.account_id for r in shell.rooms.auth.requests]


@pytest.mark.parametrize("credit", ["0", "-1", "ten", "0.0000000001", "nan"])
async def test_credit_that_is_no_amount_makes_no_key(shell: Shell, credit: str) -> None:
    await shell.run("accounts", "create", "me")

    code = await shell.run("keys", "create", "--credit", credit)

    assert 1 == code
    assert 1 == len(shell.err.splitlines())
    assert [] == shell.rooms.auth.requests


async def test_keys_are_listed_revoked_and_rotated(shell: Shell) -> None:
    await shell.run("accounts", "create", "me")
    await shell.run("keys", "create", "--name", "laptop")

    rotated = await shell.run("keys", "rotate", "key-0", "--overlap", "15m")
    revoked = await shell.run("keys", "revoke", "key-0")
    listed = await shell.json("keys", "list", "--account", "me")
    await shell.run("keys", "list")

    assert (0, 0) == (rotated, revoked)
    assert 900 == shell.rooms.auth.rotations[0].overlap.seconds
    assert ["STATE_REVOKED"] == [key["state"] for key in listed["keys"]]
    assert "revoked" in shell.out
    assert "laptop" in shell.out


async def test_refusal_is_one_line_and_exit_code_one(shell: Shell) -> None:
    code = await shell.run("keys", "revoke", "nothing")

    assert (1, "turnpike: There is no key nothing.\n") == (code, shell.err)


async def test_accounts_are_listed_with_balances_over_all_pages(shell: Shell) -> None:
    for number in range(3):
        await shell.run("accounts", "create", f"a{number}", "--credit", "0.50")
    await shell.run("accounts", "credit", "a1", "0.25")

    listed = await shell.json("accounts", "list", "--limit", "2")

    balances = [account["balance"]["available_nusd"] for account in listed["accounts"]]
    assert ["500000000", "750000000"] == balances


async def test_models_are_listed_with_prices_per_million(shell: Shell) -> None:
    await shell.run("models", "list")

    assert "$0.10-$0.15" in shell.out
    assert "$0.40" in shell.out


async def test_usage_is_filtered_by_account_model_and_time(shell: Shell) -> None:
    await shell.run("accounts", "create", "me")

    code = await shell.run(
        "usage", "list", "--account", "me", "--model", "tiny-chat", "--since", "2026-11-21"
    )

    wish = shell.rooms.metering.filters[0]
    assert 0 == code
    assert ("account-0", "tiny-chat") == (wish.account_id, wish.model_id)
    assert 1_795_219_200 == wish.start_time.seconds
    assert not wish.HasField("end_time")
    assert "$0.0000148" in shell.out


async def test_usage_that_nobody_is_charged_for_is_listed_by_itself(shell: Shell) -> None:
    code = await shell.run("usage", "list", "--account", OPERATOR_ID)

    assert (0, OPERATOR_ID) == (code, shell.rooms.metering.filters[0].account_id)


async def test_usage_shows_units_refunds_and_episodes_only_where_there_are_some(
    shell: Shell,
) -> None:
    await shell.run("usage", "list")
    plain = shell.out.splitlines()[0]
    shell.rooms.metering.records[0].MergeFrom(
        UsageRecord(
            unit="image", usage=TokenUsage(unit_count=2), refund_nusd=14_800, episode_id="e-1"
        )
    )

    await shell.run("usage", "list", "--episode", "e-1")

    assert plain.endswith("TTFT MS")
    assert shell.out.splitlines()[0].endswith("TTFT MS\tUNITS\tREFUND\tEPISODE")
    assert shell.out.splitlines()[1].endswith("2 image\t$0.0000148\te-1")
    assert "e-1" == shell.rooms.metering.filters[-1].episode_id


async def test_usage_is_summed(shell: Shell) -> None:
    summed = await shell.json("usage", "summary", "--since", "24h")

    assert "7" == summed["summaries"][0]["request_count"]


async def test_time_that_is_none_is_refused(shell: Shell) -> None:
    assert 1 == await shell.run("usage", "list", "--since", "yesterday")
    assert "yesterday" in shell.err


async def test_clean_ledger_is_exit_code_zero_and_a_finding_is_one(shell: Shell) -> None:
    clean = await shell.run("ledger", "verify")
    finding = payment_pb2.Finding(check="chain", subject="7", detail="Hash differs.")
    shell.rooms.payment.findings.append(finding)
    broken = await shell.run("ledger", "verify")
    said = shell.out
    broken_json = await shell.run("ledger", "verify", "--json")

    assert (0, 1, 1) == (clean, broken, broken_json)
    assert "chain: 7: Hash differs." in said
    assert not json.loads(shell.out)["is_clean"]


async def test_balances_are_shown_whole_and_for_one_account(shell: Shell) -> None:
    await shell.run("accounts", "create", "me", "--credit", "3")

    every = await shell.json("ledger", "balance")
    one = await shell.json("ledger", "balance", "me")
    rebuilt = await shell.json("ledger", "rebuild")

    assert "3000000000" == every["balances"][0]["balance_nusd"]
    assert "3000000000" == one["balance"]["available_nusd"]
    assert "1" == rebuilt["corrected_count"]


async def test_wrong_token_is_one_line(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNPIKE__ADMIN__TOKEN", "wrong")

    code = await shell.run("keys", "list")

    assert (1, "turnpike: The admin token is missing or wrong.\n") == (code, shell.err)


async def test_flag_wins_over_variable_and_variable_over_note(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = json.loads(Path(".turnpike/first-run.json").read_text())
    monkeypatch.setenv("TURNPIKE__ADMIN__PORT", "9")

    by_variable = await shell.run("keys", "list")
    said = shell.err
    by_flag = await shell.run("keys", "list", "--admin", f"http://{note['admin_address']}/")

    assert (1, 0) == (by_variable, by_flag)
    assert "127.0.0.1:9" in said


async def test_nothing_started_here_is_one_line(tmp_path: Path) -> None:
    code = await Shell(FakeRooms()).run("keys", "list", "--config", str(tmp_path / "none.yaml"))
    lost = Shell(FakeRooms())

    assert 1 == code
    assert 1 == await lost.run("keys", "list")
    assert "start Turnpike here first" in lost.err


async def test_settings_are_checked_shown_and_described() -> None:
    shell = Shell(FakeRooms())
    Path("turnpike.yaml").write_text("gateway:\n  port: 1234\n")

    checked = await shell.json("config", "check")
    schema = await shell.json("config", "schema")
    await shell.run("config", "check")
    said = shell.out
    Path("turnpike.yaml").write_text("gateway:\n  prt: 1234\n")
    code = await shell.run("config", "check")

    assert {"key": "gateway.port", "value": 1234, "source": "turnpike.yaml:2"} in checked[
        "settings"
    ]
    assert "catalogue" in schema["properties"]
    assert "gateway.port = 1234  (turnpike.yaml:2)" in said.splitlines()
    assert 1 == code
    assert "turnpike: turnpike.yaml:2: gateway.prt: there is no such setting.\n" == shell.err


async def test_mistake_in_the_catalogue_is_told_with_its_line() -> None:
    shell = Shell(FakeRooms())
    Path("turnpike.yaml").write_text("catalogue:\n  models:\n    m: {context_length: 1}\n")

    code = await shell.run("config", "check", "--json")

    assert 1 == code
    assert "turnpike.yaml:3" in json.loads(shell.out)["errors"][0]


async def test_databases_are_brought_into_form_more_than_once() -> None:
    shell = Shell(FakeRooms())

    first = await shell.json("db", "upgrade")
    again = await shell.json("db", "upgrade", "--room", "auth")
    unknown = await shell.run("db", "upgrade", "--room", "gateway")

    assert ["auth", "metering", "payment", "router"] == first["upgraded"]
    assert ["auth"] == again["upgraded"]
    assert 1 == unknown
    assert Path(".turnpike/payment.db").exists()


async def test_doctor_finds_no_harm_in_an_empty_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = Shell(FakeRooms())
    for name in ("GATEWAY__PORT", "GATEWAY__GRPC_PORT", "ADMIN__PORT", "NATS__PORT"):
        monkeypatch.setenv(f"TURNPIKE__{name}", str(_free_port()))
    monkeypatch.setenv("TURNPIKE__TRITON__EMBEDDED", "false")

    examined = await shell.json("doctor")
    states = {check["check"]: check["state"] for check in examined["checks"]}

    assert examined["is_well"]
    assert ("ok", "ok", "note") == (states["settings"], states["nats"], states["triton"])
    assert "note" == states["database auth"]
    assert not Path(".turnpike").exists()


async def test_doctor_says_what_is_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = Shell(FakeRooms())
    monkeypatch.setenv("TURNPIKE__NATS__URL", "nats://127.0.0.1:9")
    monkeypatch.setenv("TURNPIKE__TRITON__EMBEDDED", "false")
    Path("turnpike.yaml").write_text(
        "catalogue:\n  providers:\n"
        "    far: {kind: openai_compat, base_url: 'http://127.0.0.1:9/v1'}\n"
    )

    code = await shell.run("doctor", "--json")
    states = {check["check"]: check["state"] for check in json.loads(shell.out)["checks"]}

    assert 1 == code
    assert ("bad", "bad") == (states["nats"], states["provider far"])


def test_every_command_but_serve_can_answer_in_json() -> None:
    names: list[tuple[str, ...]] = [("doctor",)]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        commands = group.typer_instance.registered_commands
        names.extend((str(group.name), str(command.name)) for command in commands)

    silent = [
        name for name in names if "--json" not in CliRunner().invoke(app, [*name, "--help"]).stdout
    ]

    assert 16 <= len(names)
    assert [] == silent


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        port: int = opened.getsockname()[1]
        return port
