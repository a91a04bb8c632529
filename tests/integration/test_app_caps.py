"""`turnpike accounts cap` and its kin against a real admin port and a real ledger."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from structlog.testing import capture_logs
from typer.testing import CliRunner

from app.admin import open_admin
from app.admin_client import BESIDE
from app.cli import app
from app.settings_sections import AdminSettings
from kit.bus.memory import MemoryBus
from kit.rpc.local import HandlerTable, LocalChannel
from kit.rpc.transcode import Transcoder
from services.payment.caps.budgets import Budgets
from services.payment.caps.servicer import CapsServicer
from services.payment.leases import Leases
from tests.fakes.rooms import FakeRooms
from tests.unit.payment.rig import Rig, open_rig, outcome
from turnpike.auth.v1 import auth_pb2
from turnpike.payment.v1 import caps_pb2_grpc
from turnpike.type.v1 import principal_pb2

TOKEN = "token-of-the-test"
EPISODE = "0199d1c8-0000-7000-8000-00000000abcd"


@dataclass
class Shell:
    """Runs commands; what was answered last is in `out`."""

    rig: Rig
    out: str = ""

    async def run(self, *arguments: str) -> int:
        found = await asyncio.to_thread(CliRunner().invoke, app, list(arguments))
        self.out = found.stdout + found.stderr
        return found.exit_code

    async def rows(self, *arguments: str) -> list[list[str]]:
        """Return the cells of a table, without its head."""
        assert 0 == await self.run(*arguments), self.out
        return [line.split("\t") for line in self.out.splitlines()[1:]]


@pytest.fixture
async def shell(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Shell]:
    monkeypatch.chdir(tmp_path)
    rooms, table = FakeRooms(), HandlerTable()
    rooms.auth.accounts.append(auth_pb2.Account(account_id="a", name="alice"))
    principal = principal_pb2.Principal(account_id="a", key_id="key")
    rooms.auth.keys.append(auth_pb2.Key(principal=principal))
    async with open_rig(sqlite_url) as rig:
        leases = Leases(rig.store, MemoryBus(), settings=rig.settings)
        servicer = CapsServicer(rig.caps, Budgets(rig.caps, leases))
        caps_pb2_grpc.add_CapsServiceServicer_to_server(servicer, table)  # type: ignore[arg-type]
        channels = {**rooms.channels, BESIDE["caps"][1]: LocalChannel(table)}
        async with open_admin(
            AdminSettings(token=SecretStr(TOKEN)),
            port=0,
            transcoder=Transcoder(channels),
            registry=CollectorRegistry(),
            readiness=lambda: True,
        ) as port:
            note = tmp_path / ".turnpike" / "first-run.json"
            note.parent.mkdir()
            address = f"127.0.0.1:{port.port}"
            note.write_text(json.dumps({"admin_address": address, "admin_token": TOKEN}))
            with capture_logs():
                yield Shell(rig)


async def test_caps_are_set_listed_and_removed(shell: Shell) -> None:
    await shell.rig.credit("a", 10_000)
    lease_id, _ = await shell.rig.lease("a", 1_000)
    await shell.rig.settle(outcome("r1", lease_id, hold_nusd=1_000, charge_nusd=1_000))

    for command in (
        ("accounts", "cap", "alice", "--window", "day", "--limit", "5.00"),
        ("accounts", "cap", "alice", "--limit", "50"),
        ("keys", "cap", "key", "--window", "total", "--limit", "0"),
        ("keys", "cap", "key", "--window", "episode", "--limit", "0.25"),
        ("accounts", "episode", "alice", EPISODE.upper(), "--limit", "1"),
    ):
        assert 0 == await shell.run(*command), shell.out
    found = await shell.rows("accounts", "caps", "alice", "--episodes")
    removed = await shell.run("accounts", "cap", "alice", "--window", "day", "--remove")
    said = shell.out
    left = await shell.rows("accounts", "caps", "alice")

    assert [
        ["account", "-", "day", "$5.00", "$0.000001"],
        ["account", "-", "month", "$50.00", "$0.000001"],
        ["episode", EPISODE, "total", "$1.00", "$0.00"],
        ["key", "key", "total", "$0.00", "$0.000001"],
        ["key_episode", "key", "total", "$0.25", "$0.00"],
    ] == [row[:5] for row in found]
    assert [False, False, True] == [row[5] == "-" for row in found[:3]]
    assert (0, "Removed; $0.000001 of $5.00 were used.\n") == (removed, said)
    assert 3 == len(left)


async def test_episode_is_shown(shell: Shell) -> None:
    await shell.rig.credit("a", 10_000)
    await shell.run("accounts", "episode", "alice", EPISODE, "--limit", "0.5")
    await shell.rig.store.lease(shell.rig.terms("a", 1_000, episode_id=EPISODE))

    assert 0 == await shell.run("accounts", "episode", "alice", EPISODE)
    assert "Budget $0.50, spent $0.00, held $0.000001.\n" == shell.out
    assert 0 == await shell.run("accounts", "episode", "alice", EPISODE, "--json")
    assert "500000000" == json.loads(shell.out)["limit_nusd"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("accounts", "cap", "alice"), "Give one of --limit and --remove."),
        (("accounts", "cap", "alice", "--limit", "1", "--remove"), "Give one of"),
        (("accounts", "cap", "alice", "--limit", "-1"), "must not be negative"),
        (("accounts", "cap", "alice", "--limit", "much"), "not a number"),
        (("accounts", "cap", "alice", "--remove"), "There is no such cap."),
        (("accounts", "cap", "bob", "--limit", "1"), "no account is called bob"),
        (("keys", "cap", "other", "--limit", "1"), "There is no key other."),
        (("accounts", "episode", "alice", EPISODE), "Nothing is known of this episode."),
    ],
)
async def test_what_cannot_be_done_is_told_in_one_line(
    shell: Shell, command: tuple[str, ...], said: str
) -> None:
    assert 1 == await shell.run(*command)
    assert said in shell.out
    assert 1 == shell.out.count("\n")
