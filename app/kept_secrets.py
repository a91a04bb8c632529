"""Secrets that nobody set: made once, kept under the state folder, readable by the owner alone."""

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from app.admin_client import ADMIN_TOKEN_NAME
from app.errors import StartError
from app.settings import Settings
from services.payment.settings import PaymentSettings
from services.router.settings import RouterSettings

KEPT_KEY_ID: Final = "kept"
"""What the master key is called that was made here."""

SIGNING_KEY_NAME: Final = "payment_signing_key"
_BYTES: Final = 32
_MASTER_KEY_NAME: Final = "router_master_key"
_OWNER_ONLY: Final = 0o600
_OWNER_FOLDER: Final = 0o700


def keep_secret(folder: Path, name: str) -> SecretStr:
    """Return the secret called `name`, made now if it is not there yet.

    Two processes that ask at the same time get the same one.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=_OWNER_FOLDER)
    path = folder / name
    if not path.exists():
        draft = folder / f".{name}.{os.getpid()}"
        write_private(draft, secrets.token_urlsafe(_BYTES) + "\n")
        with suppress(FileExistsError):
            path.hardlink_to(draft)
        draft.unlink()
    return SecretStr(path.read_text().strip())


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read; a reader sees the old text or the new one."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    draft.replace(path)


def fill_secrets(settings: Settings, *, target: str) -> Settings:
    """Return the settings with the secrets that this machine can make for itself.

    Raises:
        StartError: A secret that several machines must share was not set.
    """
    folder = settings.state_dir / "secrets"
    admin, peers, auth = settings.admin, settings.peers, settings.auth
    if not admin.token.get_secret_value():
        admin = admin.model_copy(update={"token": keep_secret(folder, ADMIN_TOKEN_NAME)})
    if target != "all" and not peers.token.get_secret_value():
        if not peers.are_local:
            raise StartError("The services are on several machines: set TURNPIKE__PEERS__TOKEN.")
        peers = peers.model_copy(update={"token": keep_secret(folder, "service_token")})
    if target in {"all", "auth"} and not auth.pepper.get_secret_value():
        if not auth.database_url.startswith("sqlite"):
            raise StartError("Keys are in a shared database: set TURNPIKE__AUTH__PEPPER.")
        auth = auth.model_copy(update={"pepper": keep_secret(folder, "auth_pepper")})
    router = settings.router
    if target in {"all", "router"}:
        router = _with_turn_key(_with_master_key(router, folder), folder)
    payment = settings.payment
    if target in {"all", "payment"}:
        payment = _with_signing_key(payment, folder)
    rooms = {"auth": auth, "router": router, "payment": payment}
    return settings.model_copy(update={"admin": admin, "peers": peers, **rooms})


def _with_signing_key(payment: PaymentSettings, folder: Path) -> PaymentSettings:
    """Return the settings with the key of roots and quotes; a set one is left.

    Where payment runs on several machines that are given none, each signs with a key of its own.
    """
    if payment.proof.signing_key.get_secret_value():
        return payment
    proof = {"signing_key": keep_secret(folder, SIGNING_KEY_NAME)}
    return payment.model_copy(update={"proof": payment.proof.model_copy(update=proof)})


def _with_turn_key(router: RouterSettings, folder: Path) -> RouterSettings:
    """Return the settings with the key of what is kept between turns; a set one is left.

    Routers on several machines that are given none read only what they kept themselves.
    """
    if router.turn_state_keys.get_secret_value():
        return router
    return router.model_copy(update={"turn_state_keys": keep_secret(folder, "turn_state_key")})


def _with_master_key(router: RouterSettings, folder: Path) -> RouterSettings:
    """Return the settings with the master key of this machine.

    One is made where none is set and nobody shares the database; once made it opens what it sealed.
    """
    is_own = router.database_url.startswith("sqlite")
    is_made = (folder / _MASTER_KEY_NAME).exists()
    if KEPT_KEY_ID in router.byok_keys or not is_own or (router.byok_keys and not is_made):
        return router
    current = router.byok_key_id or next(iter(router.byok_keys), KEPT_KEY_ID)
    keys = {**router.byok_keys, KEPT_KEY_ID: keep_secret(folder, _MASTER_KEY_NAME)}
    return router.model_copy(update={"byok_keys": keys, "byok_key_id": current})
