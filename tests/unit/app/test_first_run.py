"""The first start makes an account, credit and a key; later ones make nothing."""

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from app.first_run import Greeting, Note, Stubs, greet
from app.settings_sections import FirstRunSettings
from kit.clock import ManualClock
from kit.ids import name_id
from tests.fakes.rooms import SECRET, FakeRooms
from turnpike.auth.v1 import auth_pb2
from turnpike.auth.v1.auth_pb2_grpc import AuthServiceStub
from turnpike.payment.v1 import payment_pb2
from turnpike.payment.v1.payment_pb2_grpc import PaymentServiceStub
from turnpike.router.v1.router_pb2_grpc import RouterServiceStub

NOTE = Note(
    base_url="http://127.0.0.1:3000/v1",
    grpc_address="127.0.0.1:3015",
    api_key="",
    admin_address="127.0.0.1:3001",
    admin_token="admin-token",
)


async def start(
    rooms: FakeRooms, folder: Path, *, note: Note = NOTE, is_enabled: bool = True
) -> Greeting:
    stubs = Stubs(
        auth=AuthServiceStub(rooms.channel),
        payment=PaymentServiceStub(rooms.channel),
        router=RouterServiceStub(rooms.channel),
    )
    settings = FirstRunSettings(is_enabled=is_enabled, credit_usd="1.00")
    return await greet(stubs, state_dir=folder, note=note, settings=settings, clock=ManualClock())


async def test_first_start_mints_and_writes_for_the_owner_alone(tmp_path: Path) -> None:
    rooms = FakeRooms()

    greeting = await start(rooms, tmp_path)

    path = tmp_path / "first-run.json"
    assert {
        "base_url": "http://127.0.0.1:3000/v1",
        "grpc_address": "127.0.0.1:3015",
        "api_key": SECRET,
        "admin_address": "127.0.0.1:3001",
        "admin_token": "admin-token",
    } == json.loads(path.read_text())
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert {"account-0": 1_000_000_000} == rooms.payment.available
    assert ["default"] == [account.name for account in rooms.auth.accounts]
    assert greeting.is_first


async def test_first_greeting_can_be_pasted(tmp_path: Path) -> None:
    text = (await start(FakeRooms(), tmp_path)).text()

    assert "http://127.0.0.1:3000/v1\n" in text
    assert "gRPC      127.0.0.1:3015\n" in text
    assert f"curl -N {NOTE.base_url}/chat/completions" in text
    assert f"Bearer {SECRET}" in text
    assert '"model": "tiny-chat", "stream": true' in text
    assert "$1.00 credit" in text


async def test_later_start_mints_nothing_and_keeps_the_key(tmp_path: Path) -> None:
    rooms = FakeRooms()
    await start(rooms, tmp_path)

    greeting = await start(rooms, tmp_path, note=replace(NOTE, admin_address="127.0.0.1:4001"))

    note = json.loads((tmp_path / "first-run.json").read_text())
    assert (SECRET, "127.0.0.1:4001") == (note["api_key"], note["admin_address"])
    assert 1 == len(rooms.auth.keys)
    assert {"account-0": 1_000_000_000} == rooms.payment.available
    assert SECRET not in greeting.text()
    assert str(tmp_path / "first-run.json") in greeting.text()


async def test_greeting_is_silent_about_grpc_when_it_is_off(tmp_path: Path) -> None:
    greeting = await start(FakeRooms(), tmp_path, note=replace(NOTE, grpc_address=""))

    assert "gRPC" not in greeting.text()


async def test_owner_with_accounts_is_given_nothing(tmp_path: Path) -> None:
    rooms = FakeRooms()
    rooms.auth.accounts.append(_account("mine"))

    greeting = await start(rooms, tmp_path)

    assert not greeting.is_first
    assert {} == rooms.payment.available


async def test_start_that_broke_off_is_finished_and_credit_is_given_once(tmp_path: Path) -> None:
    rooms = FakeRooms()
    rooms.auth.accounts.append(_account("default"))
    credit = payment_pb2.CreditAccountRequest(
        account_id="account-0",
        amount_nusd=1_000_000_000,
        request_id=name_id("first-run", "account-0"),
    )
    await rooms.payment.CreditAccount(credit, object())

    greeting = await start(rooms, tmp_path)

    assert greeting.is_first
    assert 1 == len(rooms.auth.keys)
    assert {"account-0": 1_000_000_000} == rooms.payment.available


async def test_first_run_can_be_turned_off(tmp_path: Path) -> None:
    rooms = FakeRooms()

    await start(rooms, tmp_path, is_enabled=False)

    assert [] == rooms.auth.accounts


@pytest.mark.parametrize(("names", "model"), [(["a", "b"], "a"), ([], "")])
async def test_without_the_tiny_model_another_is_tried_or_none(
    tmp_path: Path, names: list[str], model: str
) -> None:
    rooms = FakeRooms()
    rooms.router.names = names

    greeting = replace(await start(rooms, tmp_path), triton_missing="Triton cannot run here: x.")

    assert model == greeting.model
    assert bool(names) == ("curl" in greeting.text())
    assert 1 == greeting.text().count("Triton cannot run here: x.")


def _account(name: str) -> auth_pb2.Account:
    return auth_pb2.Account(account_id="account-0", name=name)
