"""What the commands share: options, errors as one line, tables and money for people."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, dataclass, fields
from datetime import UTC, datetime
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, get_type_hints

import typer

from app.admin_client import AdminClient, AdminError, Json
from kit.clock import SystemClock
from kit.money import format_usd, nusd_from_usd

AdminOption = Annotated[
    str | None, typer.Option("--admin", help="Admin address, host:port; found by itself here.")
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Settings file; turnpike.yaml where that exists.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=100_000, help="Most entries.")]

_SPAN: Final = re.compile(r"([0-9]{1,9})(s|m|h|d)")
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, kw_only=True)
class Reach:
    """What every command that talks to a running Turnpike takes."""

    admin: AdminOption = None
    config: ConfigOption = None
    as_json: JsonOption = False


T = TypeVar("T", bound=Reach)


def gathered(kind: type[T]) -> Callable[[Callable[[T], None]], Callable[..., None]]:
    """Let a command take the fields of a dataclass as its options, as one value."""
    hints = get_type_hints(kind, include_extras=True)
    parameters = [
        Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(kind)
    ]

    def decorate(command: Callable[[T], None]) -> Callable[..., None]:
        def run(**values: Any) -> None:  # noqa: ANN401 - typer checked them
            command(kind(**values))

        run.__signature__ = Signature(parameters)  # type: ignore[attr-defined] # typer asks for it
        run.__annotations__ = hints
        run.__doc__ = command.__doc__
        return run

    return decorate


def print_json(data: object) -> None:
    """Print JSON to standard output."""
    typer.echo(json.dumps(data, indent=2))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; where the output is no terminal, columns are parted by tabs."""
    import sys  # noqa: PLC0415

    if not sys.stdout.isatty():
        typer.echo("\t".join(columns))
        for row in rows:
            typer.echo("\t".join(str(cell) for cell in row))
        return
    from rich.console import Console  # noqa: PLC0415 - slow to import
    from rich.table import Table  # noqa: PLC0415

    table = Table(*columns, box=None, header_style="bold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console().print(table)


def usd(amount_nusd: object) -> str:
    """Return an amount as it comes in JSON, nano-USD, for people."""
    return f"${format_usd(int(str(amount_nusd or 0)))}"


def nusd(text: str) -> int:
    """Return an amount in USD as nano-USD.

    Raises:
        AdminError: It is no amount, or not more than zero.
    """
    try:
        amount = nusd_from_usd(text)
    except ValueError as error:
        raise AdminError(str(error)) from error
    if amount <= 0:
        raise AdminError(f"The amount is {text}; it must be more than zero.")
    return amount


def span_s(text: str) -> int:
    """Return a span such as 90s, 15m, 24h or 30d in seconds.

    Raises:
        AdminError: It is no span.
    """
    match = _SPAN.fullmatch(text)
    if match is None:
        raise AdminError(f"{text} is no span; it should look like 90s, 15m, 24h or 30d.")
    return int(match[1]) * _UNIT_S[match[2]]


def moment(text: str, *, is_past: bool) -> str:
    """Return a date, a time, or a span from now as an RFC 3339 time in UTC.

    Raises:
        AdminError: It is none of them.
    """
    if _SPAN.fullmatch(text):
        sign = -1 if is_past else 1
        seconds = SystemClock().unix_ms() / 1000 + sign * span_s(text)
        found = datetime.fromtimestamp(round(seconds), UTC)
    else:
        try:
            found = datetime.fromisoformat(text)
        except ValueError as error:
            raise AdminError(f"{text} is no time; try 2026-11-21, or 24h.") from error
        found = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    return found.strftime("%Y-%m-%dT%H:%M:%SZ")


def new_request_id() -> str:
    """Return an id that makes a repeated call harmless."""
    from kit.ids import Uuid7Source  # noqa: PLC0415

    return Uuid7Source().new(SystemClock().unix_ms())


def find_account(client: AdminClient, name_or_id: str | None, *, limit: int = 10_000) -> Json:
    """Return the account with this id or name; without one, the oldest account.

    Raises:
        AdminError: There is none, or several have the name.
    """
    accounts = list(client.pages("auth", "ListAccounts", "accounts", limit=limit))
    if name_or_id is None:
        if not accounts:
            raise AdminError("There is no account; make one with `turnpike accounts create`.")
        return accounts[0]
    found = [a for a in accounts if name_or_id in {a["account_id"], a["name"]}]
    if len(found) != 1:
        what = "several accounts are" if found else "no account is"
        raise AdminError(f"Here {what} called {name_or_id}.")
    return found[0]


def add_credit(
    client: AdminClient,
    account_id: str,
    amount_nusd: int,
    source: str = "manual",
    expires: str | None = None,
) -> Json:
    """Add credit to an account and return its balance; `expires` as `moment` takes it.

    Raises:
        AdminError: It was refused.
    """
    request: Json = {
        "account_id": account_id,
        "amount_nusd": amount_nusd,
        "source": source,
        "request_id": new_request_id(),
    }
    if expires is not None:
        request["expire_time"] = moment(expires, is_past=False)
    return client.call("payment", "CreditAccount", request)


def principal(key: Json) -> dict[str, Any]:
    """Return who a key is."""
    found: dict[str, Any] = key.get("principal", {})
    return found
