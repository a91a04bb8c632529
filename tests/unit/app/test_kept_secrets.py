"""Secrets that nobody set are made once and are for the owner's eyes."""

import stat
from pathlib import Path
from typing import Any

import pytest

from app.errors import StartError
from app.kept_secrets import fill_secrets, keep_secret, write_private
from app.settings import Settings, load_settings
from kit.sealed import new_key, ring_of
from services.payment.proof.signing import Signer, seed_of


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


MASTER_KEY = "bWFzdGVyLWtleS1jYW5hcnktb2YtMzItYnl0ZXMtMDE="


def settings(**variables: Any) -> Settings:
    tree: dict[str, dict[str, Any]] = {}
    for name, value in variables.items():
        section, _, key = name.partition("__")
        tree.setdefault(section, {})[key] = value
    return load_settings(flags=tree).settings


def test_secret_is_made_once_and_private(tmp_path: Path) -> None:
    first = keep_secret(tmp_path / "secrets", "one")
    again = keep_secret(tmp_path / "secrets", "one")
    other = keep_secret(tmp_path / "secrets", "two")

    assert first == again
    assert first != other
    assert 32 <= len(first.get_secret_value())
    assert 0o600 == stat.S_IMODE((tmp_path / "secrets" / "one").stat().st_mode)
    assert ["one", "two"] == sorted(path.name for path in (tmp_path / "secrets").iterdir())


def test_private_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "note"
    path.write_text("old")
    path.chmod(0o644)

    write_private(path, "new")

    assert "new" == path.read_text()
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)


def test_everything_in_one_process_needs_no_service_token() -> None:
    filled = fill_secrets(settings(), target="all")

    assert filled.admin.token.get_secret_value()
    assert filled.auth.pepper.get_secret_value()
    assert not filled.peers.token.get_secret_value()


def test_routers_of_one_machine_share_the_key_of_what_they_keep() -> None:
    everything = fill_secrets(settings(), target="all")
    router = fill_secrets(settings(), target="router")
    gateway = fill_secrets(settings(), target="gateway")

    text = router.router.turn_state_keys.get_secret_value()
    assert text == everything.router.turn_state_keys.get_secret_value()
    assert ring_of(text).seal(b"x", context=b"c")
    assert not gateway.router.turn_state_keys.get_secret_value()


def test_payment_gets_a_key_that_signs_and_keeps_it() -> None:
    first = fill_secrets(settings(), target="all")
    again = fill_secrets(settings(), target="payment")
    gateway = fill_secrets(settings(), target="gateway")

    text = first.payment.proof.signing_key.get_secret_value()
    assert text == again.payment.proof.signing_key.get_secret_value()
    assert Signer(seed_of(text)).public_key
    assert not gateway.payment.proof.signing_key.get_secret_value()


def test_processes_of_one_machine_share_what_they_make() -> None:
    auth = fill_secrets(settings(), target="auth")
    gateway = fill_secrets(settings(), target="gateway")

    assert auth.peers.token == gateway.peers.token
    assert auth.peers.token.get_secret_value()
    assert not gateway.auth.pepper.get_secret_value()


def test_secret_that_was_set_is_kept() -> None:
    key = new_key()
    was_set = settings(
        admin__token="mine",
        auth__pepper="salt",
        router__byok_keys={"one": MASTER_KEY},
        router__turn_state_keys=key,
        payment__proof={"signing_key": "signs"},
    )

    filled = fill_secrets(was_set, target="all")

    assert ["one"] == list(filled.router.byok_keys)
    assert "mine" == filled.admin.token.get_secret_value()
    assert "salt" == filled.auth.pepper.get_secret_value()
    assert key == filled.router.turn_state_keys.get_secret_value()
    assert "signs" == filled.payment.proof.signing_key.get_secret_value()
    assert not Path(".turnpike/secrets").exists()


@pytest.mark.parametrize(
    ("variables", "target", "variable"),
    [
        ({"peers__auth": "auth.internal:3011"}, "router", "TURNPIKE__PEERS__TOKEN"),
        (
            {"auth__database_url": "postgresql+asyncpg://db/auth"},
            "auth",
            "TURNPIKE__AUTH__PEPPER",
        ),
    ],
)
def test_secret_that_machines_share_has_to_be_set(
    variables: dict[str, str], target: str, variable: str
) -> None:
    with pytest.raises(StartError, match=variable):
        fill_secrets(settings(**variables), target=target)


def test_master_key_is_made_where_the_database_is_of_this_machine() -> None:
    first = fill_secrets(settings(), target="router").router
    again = fill_secrets(settings(), target="all").router
    elsewhere = fill_secrets(settings(), target="gateway").router
    shared = settings(router__database_url="postgresql+asyncpg://db/router")

    assert ["kept"] == list(first.byok_keys)
    assert first.byok_keys == again.byok_keys
    assert not first.sealing_ring().is_empty
    assert {} == elsewhere.byok_keys
    assert {} == fill_secrets(shared, target="router").router.byok_keys


def test_master_key_that_was_made_goes_on_opening_when_another_is_set() -> None:
    made = fill_secrets(settings(), target="all").router.byok_keys["kept"]

    filled = fill_secrets(settings(router__byok_keys={"one": MASTER_KEY}), target="all").router

    assert "one" == filled.sealing_ring().current
    assert made == filled.byok_keys["kept"]
