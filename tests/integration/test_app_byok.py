"""`turnpike byok` against a real admin port: keys go in by file or standard input, never out."""

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
from services.router.catalog import Catalogue
from services.router.servicer_keys import ProviderKeysServicer
from tests.fakes.rooms import FakeRooms
from tests.unit.router.key_rigs import KeyRig, used
from turnpike.auth.v1 import auth_pb2
from turnpike.router.v1 import provider_keys_pb2_grpc

TOKEN = "token-of-the-test"
OWN = "sk-own-canary-0123456789"


@dataclass
class Shell:
    """Runs commands; what was answered last is in `out`, what was logged in `logs`."""

    rig: KeyRig
    logs: list[Any]
    out: str = ""

    async def run(self, *arguments: str, typed: str = "") -> int:
        found = await asyncio.to_thread(CliRunner().invoke, app, list(arguments), input=typed)
        self.out = found.stdout + found.stderr
        return found.exit_code


@pytest.fixture
async def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shell]:
    monkeypatch.chdir(tmp_path)
    rooms, rig = FakeRooms(), KeyRig()
    for name in ("alice", "bob"):
        rooms.auth.accounts.append(auth_pb2.Account(account_id=f"account-{name}", name=name))
    kinds = {"openai": "openai_compat", "local": "triton"}
    catalogue = Catalogue(1, (), {}, kinds=kinds)
    servicer = ProviderKeysServicer(rig.store, rig.ring(), catalogue=lambda: catalogue)
    table = HandlerTable()
    provider_keys_pb2_grpc.add_ProviderKeysServiceServicer_to_server(servicer, table)  # type: ignore[arg-type]
    channels = {**rooms.channels, BESIDE["provider_keys"][1]: LocalChannel(table)}
    async with open_admin(
        AdminSettings(token=SecretStr(TOKEN)),
        port=0,
        transcoder=Transcoder(channels),
        registry=CollectorRegistry(),
        readiness=lambda: True,
    ) as port:
        note = tmp_path / ".turnpike" / "first-run.json"
        note.parent.mkdir()
        note.write_text(
            json.dumps({"admin_address": f"127.0.0.1:{port.port}", "admin_token": TOKEN})
        )
        with capture_logs() as logs:
            yield Shell(rig, logs)


async def stored(shell: Shell, account_id: str) -> dict[str, str] | None:
    ring = shell.rig.ring()
    await ring.load()
    return await used(ring, account_id)


async def test_key_comes_by_standard_input_and_goes_again(shell: Shell) -> None:
    place = ("--account", "alice", "--provider", "openai")

    assert 0 == await shell.run("byok", "set", *place, typed=f"{OWN}\n")
    assert {"openai": OWN} == await stored(shell, "account-alice")
    assert OWN not in shell.out

    assert 0 == await shell.run("byok", "list")
    assert ["account-alice", "openai", "...6789", "no"] == shell.out.splitlines()[1].split("\t")[:4]

    assert 0 == await shell.run("byok", "delete", *place)
    assert "is deleted" in shell.out
    assert 0 == await shell.run("byok", "delete", *place)
    assert "has no key" in shell.out
    assert {} == await stored(shell, "account-alice")
    assert OWN not in str(shell.logs)


async def test_key_comes_by_file_with_a_fallback(shell: Shell) -> None:
    Path("key.txt").write_text(f"{OWN}\n")

    code = await shell.run(
        "byok", "set", "--account", "bob", "--provider", "openai", "--fallback",
        "--secret-file", "key.txt", "--json",
    )  # fmt: skip

    assert 0 == code
    key = json.loads(shell.out)["key"]
    assert ("account-bob", True, "6789") == (key["account_id"], key["has_fallback"], key["hint"])
    assert "secret" not in key
    assert 0 == await shell.run("byok", "list", "--account", "alice", "--json")
    assert {"keys": []} == json.loads(shell.out)


@pytest.mark.parametrize(
    ("arguments", "typed", "words"),
    [
        (("--account", "alice", "--provider", "local"), OWN, "takes no plain key"),
        (("--account", "alice", "--provider", "nobody"), OWN, "no provider nobody"),
        (("--account", "carol", "--provider", "openai"), OWN, "no account is called carol"),
        (("--account", "alice", "--provider", "openai"), "", "1 to 4096 characters"),
        (("--account", "alice", "--provider", "openai"), "canary a b", "printable"),
        (
            ("--account", "alice", "--provider", "openai", "--secret-file", "x"),
            "",
            "cannot be read",
        ),
    ],
)
async def test_what_cannot_be_stored_is_said_in_one_line(
    shell: Shell, arguments: tuple[str, ...], typed: str, words: str
) -> None:
    assert 1 == await shell.run("byok", "set", *arguments, typed=typed)

    assert words in shell.out
    assert "canary" not in shell.out
    assert 1 == len(shell.out.splitlines())
    assert {} == shell.rig.store.rows


async def test_account_has_to_be_named(shell: Shell) -> None:
    assert 2 == await shell.run("byok", "set", "--provider", "openai", typed=OWN)
    assert 2 == await shell.run("byok", "delete", "--provider", "openai")
