"""`turnpike byok`: the keys that accounts bring along for providers."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from app.admin_client import AdminError, connect
from app.cli_options import (
    AdminOption,
    ConfigOption,
    JsonOption,
    LimitOption,
    Reach,
    find_account,
    gathered,
    print_json,
    print_table,
)

SECRET_CHARS_MAX: Final = 4_096

byok = typer.Typer(no_args_is_help=True, help="Accounts' own keys for providers.")
AccountOption = Annotated[str, typer.Option("--account", help="Account, name or id.")]
ProviderOption = Annotated[
    str, typer.Option("--provider", help="Provider, as the catalogue calls it.")
]


@dataclass(frozen=True, kw_only=True)
class NewKey(Reach):
    """What is stored, and for whom."""

    account: AccountOption
    provider: ProviderOption
    secret_file: Annotated[
        Path | None,
        typer.Option("--secret-file", help="File that holds the key; standard input without one."),
    ] = None
    has_fallback: Annotated[
        bool,
        typer.Option("--fallback", help="Go on with the owner's key when this one is refused."),
    ] = False


@byok.command("set")
@gathered(NewKey)
def set_key(wish: NewKey) -> None:
    """Store a key, or put another in its place; in force at once, without a restart."""
    secret = _secret(wish.secret_file)
    client = connect(wish.admin, wish.config)
    request = {
        "account_id": find_account(client, wish.account)["account_id"],
        "provider": wish.provider,
        "secret": secret,
        "has_fallback": wish.has_fallback,
    }
    answer = client.call("provider_keys", "PutProviderKey", request)
    if wish.as_json:
        print_json(answer)
    else:
        typer.echo(f"Requests of {wish.account} go to {wish.provider} with this key.")


@byok.command("list")
def list_keys(
    *,
    account: Annotated[
        str | None, typer.Option("--account", help="Account, name or id; all by default.")
    ] = None,
    limit: LimitOption = 100,
    admin: AdminOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List keys without their secrets."""
    client = connect(admin, config)
    request = {"account_id": find_account(client, account)["account_id"]} if account else {}
    pages = client.pages("provider_keys", "ListProviderKeys", "keys", request=request, limit=limit)
    found = list(pages)
    if as_json:
        print_json({"keys": found})
        return
    columns = ("ACCOUNT", "PROVIDER", "HINT", "FALLBACK", "CREATED", "ROTATED")
    print_table(
        columns,
        (
            (
                key["account_id"],
                key["provider"],
                f"...{key['hint']}" if key["hint"] else "",
                "yes" if key["has_fallback"] else "no",
                key.get("create_time", ""),
                key.get("rotate_time", ""),
            )
            for key in found
        ),
    )


@byok.command("delete")
def delete(
    *,
    account: AccountOption,
    provider: ProviderOption,
    admin: AdminOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a key; the account's requests go with the owner's again."""
    client = connect(admin, config)
    account_id = find_account(client, account)["account_id"]
    request = {"account_id": account_id, "provider": provider}
    answer = client.call("provider_keys", "DeleteProviderKey", request)
    if as_json:
        print_json(answer)
    elif answer["was_there"]:
        typer.echo(f"The key of {account} for {provider} is deleted.")
    else:
        typer.echo(f"{account} has no key for {provider}.")


def _secret(path: Path | None) -> str:
    """Return the key that is to be stored: never an argument, which others could see.

    Raises:
        AdminError: There is none, it is too long, or the file cannot be read.
    """
    try:
        if path is not None:
            with path.open() as file:
                text = file.read(SECRET_CHARS_MAX + 2)
        elif sys.stdin.isatty():
            text = typer.prompt("Key", hide_input=True)
        else:
            text = sys.stdin.read(SECRET_CHARS_MAX + 2)
    except (OSError, UnicodeDecodeError) as error:
        raise AdminError(f"The key cannot be read: {type(error).__name__}.") from error
    secret = text.strip()
    if not secret or len(secret) > SECRET_CHARS_MAX:
        raise AdminError(f"A key has 1 to {SECRET_CHARS_MAX} characters; this has {len(secret)}.")
    return secret
