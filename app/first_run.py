"""The first start: an account with credit and a key, and a note of where everything is.

Later starts bring the note's addresses up to date and mint nothing.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from app.admin_client import FIRST_RUN_NAME, read_first_run
from app.kept_secrets import write_private
from app.settings_sections import FirstRunSettings
from kit.clock import Clock
from kit.ids import Uuid7Source, name_id
from kit.money import nusd_from_usd
from turnpike.auth.v1 import auth_pb2
from turnpike.payment.v1 import payment_pb2
from turnpike.router.v1 import router_pb2

if TYPE_CHECKING:
    from turnpike.auth.v1.auth_pb2_grpc import AuthServiceAsyncStub
    from turnpike.payment.v1.payment_pb2_grpc import PaymentServiceAsyncStub
    from turnpike.router.v1.router_pb2_grpc import RouterServiceAsyncStub

_CALL_S: Final = 10.0
_ACCOUNT: Final = "default"
_KEY: Final = "first key"
_PREFERRED_MODEL: Final = "tiny-chat"


@dataclass(frozen=True, slots=True)
class Stubs:
    """What a first run calls."""

    auth: "AuthServiceAsyncStub"
    payment: "PaymentServiceAsyncStub"
    router: "RouterServiceAsyncStub"


@dataclass(frozen=True, slots=True)
class Note:
    """What `.turnpike/first-run.json` holds; `api_key` is empty when no start here made one.

    `grpc_address` is empty when gRPC is off.
    """

    base_url: str
    grpc_address: str
    api_key: str
    admin_address: str
    admin_token: str

    def write(self, path: Path) -> None:
        """Write it for the owner's eyes only."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        write_private(path, json.dumps(fields, indent=2) + "\n")


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a start tells its owner; `command` is how the command line is called here."""

    note: Note
    note_path: Path
    is_first: bool
    credit_usd: str
    model: str
    triton_missing: str = ""
    command: str = "turnpike"

    def text(self) -> str:
        """Return the lines; the key is among them only when it was made just now."""
        lines = ["", "Turnpike is ready."]
        if self.triton_missing:
            lines.append(f"  {self.triton_missing} Models come from providers with keys only.")
        lines.append(f"  Base URL  {self.note.base_url}")
        if self.note.grpc_address:
            lines.append(f"  gRPC      {self.note.grpc_address}")
        if self.is_first:
            lines.append(f"  API key   {self.note.api_key}  (${self.credit_usd} credit)")
        else:
            lines.append(f"  API key   in {self.note_path}")
        lines += [f"  Try       {line}" for line in [self._curl()] if line]
        lines.append(f"  Usage     {self.command} usage list, {self.command} accounts list")
        return "\n".join([*lines, ""])

    def _curl(self) -> str:
        if not self.model:
            return ""
        body = {
            "model": self.model,
            "stream": True,
            "messages": [{"role": "user", "content": "Why is the sea salty?"}],
        }
        key = self.note.api_key if self.is_first else "$TURNPIKE_API_KEY"
        return (
            f"curl -N {self.note.base_url}/chat/completions"
            f' -H "Authorization: Bearer {key}" -H "Content-Type: application/json"'
            f" -d '{json.dumps(body)}'"
        )


async def greet(
    stubs: Stubs, *, state_dir: Path, note: Note, settings: FirstRunSettings, clock: Clock
) -> Greeting:
    """Make what a first start needs, write the note, and return what to tell.

    A first start that broke off is taken up where it ended; credit is never given twice.

    Args:
        stubs: The services.
        state_dir: Where the note goes.
        note: Today's addresses; its key is empty.
        settings: Whether an account may be made, and with how much credit.
        clock: Names the requests.
    """
    path = state_dir / FIRST_RUN_NAME
    key = str(read_first_run(state_dir).get("api_key", ""))
    account_id = await _unfinished_account(stubs) if settings.is_enabled else None
    if account_id is not None:
        key = await _make_key(stubs, account_id, settings.credit_usd, clock)
    written = replace(note, api_key=key)
    written.write(path)
    return Greeting(
        note=written,
        note_path=path,
        is_first=account_id is not None,
        credit_usd=settings.credit_usd,
        model=await _model(stubs),
    )


async def _unfinished_account(stubs: Stubs) -> str | None:
    """Return the account that a first start goes on with: empty to make one, None if it is done."""
    request = auth_pb2.ListAccountsRequest(page_size=2)
    accounts = (await stubs.auth.ListAccounts(request, timeout=_CALL_S)).accounts
    if not accounts:
        return ""
    if len(accounts) > 1 or accounts[0].name != _ACCOUNT:
        return None
    wish = auth_pb2.ListKeysRequest(account_id=accounts[0].account_id, page_size=1)
    has_key = bool((await stubs.auth.ListKeys(wish, timeout=_CALL_S)).keys)
    return None if has_key else accounts[0].account_id


async def _make_key(stubs: Stubs, account_id: str, credit_usd: str, clock: Clock) -> str:
    new_id = Uuid7Source().new
    if not account_id:
        wish = auth_pb2.CreateAccountRequest(name=_ACCOUNT, request_id=new_id(clock.unix_ms()))
        account_id = (await stubs.auth.CreateAccount(wish, timeout=_CALL_S)).account.account_id
    if credit_nusd := nusd_from_usd(credit_usd):
        credit = payment_pb2.CreditAccountRequest(
            account_id=account_id,
            amount_nusd=credit_nusd,
            source="promo",
            request_id=name_id("first-run", account_id),
        )
        await stubs.payment.CreditAccount(credit, timeout=_CALL_S)
    request = auth_pb2.CreateKeyRequest(
        account_id=account_id, name=_KEY, request_id=new_id(clock.unix_ms())
    )
    return (await stubs.auth.CreateKey(request, timeout=_CALL_S)).secret


async def _model(stubs: Stubs) -> str:
    """Return a model to try: the tiny one where it runs, else the first, else nothing."""
    answer = await stubs.router.ListModels(router_pb2.ListModelsRequest(), timeout=_CALL_S)
    names = [model.model_id for model in answer.models]
    if _PREFERRED_MODEL in names:
        return _PREFERRED_MODEL
    return names[0] if names else ""
