"""The command line's way to a running Turnpike: JSON over the admin port.

Standard library only, so that `turnpike keys list` starts fast.
"""

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from app.settings import Loaded, load_settings

SERVICES: Final = {
    "auth": "turnpike.auth.v1.AuthService",
    "metering": "turnpike.metering.v1.MeteringService",
    "payment": "turnpike.payment.v1.PaymentService",
    "router": "turnpike.router.v1.RouterService",
}
BESIDE: Final = {
    "provider_keys": ("router", "turnpike.router.v1.ProviderKeysService"),
    "receipts": ("payment", "turnpike.payment.v1.ReceiptService"),
    "caps": ("payment", "turnpike.payment.v1.CapsService"),
    "suppliers": ("payment", "turnpike.payment.v1.SuppliersService"),
    "machine_payments": ("payment", "turnpike.payment.v1.MachinePaymentService"),
    "billing": ("payment", "turnpike.payment.v1.BillingService"),
}
"""Further services, by what they are about: whose room serves them, and their names."""

_PATHS: Final = {**SERVICES, **{name: service for name, (_, service) in BESIDE.items()}}
FIRST_RUN_NAME: Final = "first-run.json"
ADMIN_TOKEN_NAME: Final = "admin_token"  # noqa: S105 - the name of a file
_TIMEOUT_S: Final = 120.0
_PAGE_MAX: Final = 1_000

Json = dict[str, Any]


class AdminError(Exception):
    """A command cannot be carried out; the message is one line for the user."""


@dataclass(frozen=True, slots=True)
class AdminAddress:
    """Where the admin port is, and the token that opens it."""

    host: str
    port: int
    token: str


class AdminClient:
    """Calls unary RPCs by their names."""

    def __init__(self, address: AdminAddress) -> None:
        self._address = address

    def call(self, room: str, method: str, request: Json | None = None) -> Json:
        """Call a method of a room's service, or of one of `BESIDE`, and return its answer.

        Raises:
            AdminError: Nothing answers, the token is wrong, or the call was refused.
        """
        path = f"/rpc/{_PATHS[room]}/{method}"
        status, body = self._post(path, json.dumps(request or {}))
        try:
            answer = json.loads(body)
        except ValueError as error:
            raise AdminError(f"{self._where} gave no JSON; is that the admin port?") from error
        if status != http.client.OK:
            raise AdminError(str(answer.get("message") or f"It was refused with status {status}."))
        found: Json = answer
        return found

    def pages(
        self, room: str, method: str, field: str, *, request: Json | None = None, limit: int
    ) -> Iterator[Json]:
        """Yield at most `limit` entries of the repeated `field`, page by page."""
        token = ""
        while limit > 0:
            page = {"page_size": min(limit, _PAGE_MAX), "page_token": token}
            answer = self.call(room, method, {**(request or {}), **page})
            entries = answer.get(field, [])[:limit]
            yield from entries
            limit -= len(entries)
            token = answer.get("next_page_token", "")
            if not token:
                return

    @property
    def _where(self) -> str:
        return f"{self._address.host}:{self._address.port}"

    def _post(self, path: str, body: str) -> tuple[int, bytes]:
        headers = {
            "Authorization": f"Bearer {self._address.token}",
            "Content-Type": "application/json",
        }
        connection = http.client.HTTPConnection(
            self._address.host, self._address.port, timeout=_TIMEOUT_S
        )
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise AdminError(f"Nothing answers on {self._where}; does Turnpike run?") from error
        finally:
            connection.close()


def connect(admin: str | None, config: Path | None) -> AdminClient:
    """Return a client of the admin port that flags, settings and the last start name."""
    return AdminClient(find_admin(admin, load_settings(config)))


def find_admin(admin: str | None, loaded: Loaded) -> AdminAddress:
    """Return where the admin port is.

    A flag wins over a setting that somebody made, that over what the last start wrote down, that
    over the default.

    Raises:
        AdminError: There is no token, because nothing has been started here.
    """
    settings = loaded.settings
    written = read_first_run(settings.state_dir)
    is_set = any(loaded.source(("admin", name)) != "default" for name in ("host", "port"))
    address = f"{settings.admin.host}:{settings.admin.port_for('all')}"
    if admin:
        address = admin
    elif not is_set:
        address = str(written.get("admin_address") or address)
    host, _, port = address.removeprefix("http://").rstrip("/").rpartition(":")
    if not host or not port.isdecimal():
        raise AdminError(f"{address} is no address; it should look like 127.0.0.1:3001.")
    token = settings.admin.token.get_secret_value() or _kept_token(settings.state_dir)
    token = token or str(written.get("admin_token", ""))
    if not token:
        raise AdminError(
            f"There is no admin token under {settings.state_dir}; start Turnpike here first,"
            " or set TURNPIKE__ADMIN__TOKEN."
        )
    return AdminAddress(host.strip("[]"), int(port), token)


def read_first_run(state_dir: Path) -> Json:
    """Return what the last start wrote down; empty when there was none."""
    try:
        written: Json = json.loads((state_dir / FIRST_RUN_NAME).read_text())
    except (OSError, ValueError):
        return {}
    return written


def _kept_token(state_dir: Path) -> str:
    try:
        return (state_dir / "secrets" / ADMIN_TOKEN_NAME).read_text().strip()
    except OSError:
        return ""
