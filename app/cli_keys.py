"""`turnpike keys`: make, list, revoke and rotate API keys."""

from dataclasses import dataclass
from typing import Annotated

import typer

from app.admin_client import Json, connect
from app.cli_options import (
    AdminOption,
    ConfigOption,
    JsonOption,
    LimitOption,
    Reach,
    add_credit,
    find_account,
    gathered,
    moment,
    new_request_id,
    nusd,
    principal,
    print_json,
    print_table,
    span_s,
    usd,
)

keys = typer.Typer(no_args_is_help=True, help="API keys.")
AccountOption = Annotated[
    str | None, typer.Option("--account", help="Account, name or id; the oldest one by default.")
]
KeyArgument = Annotated[str, typer.Argument(help="Key id, as `turnpike keys list` shows it.")]


@dataclass(frozen=True, kw_only=True)
class NewKey(Reach):
    """What can be wished for with a new key."""

    name: Annotated[str, typer.Option(help="What people call it.")] = ""
    account: AccountOption = None
    credit: Annotated[str | None, typer.Option(help="USD for its account, such as 10.00.")] = None
    tier: Annotated[str, typer.Option(help="Tier that sets its limits.")] = ""
    models: Annotated[
        list[str] | None, typer.Option(help="Models it may use, with commas or repeated; all.")
    ] = None
    scopes: Annotated[
        list[str] | None,
        typer.Option(
            help="chat, models, usage, admin, chat_template, billing; the first three by default."
        ),
    ] = None
    dialect: Annotated[str, typer.Option(help="Dialect pinned on it.")] = ""
    expires: Annotated[str | None, typer.Option(help="When it ends: 30d, 2027-01-01.")] = None
    requests_per_minute: Annotated[int | None, typer.Option(min=0, help="0 means no limit.")] = None
    tokens_per_minute: Annotated[int | None, typer.Option(min=0, help="0 means no limit.")] = None
    concurrency: Annotated[
        int | None, typer.Option(min=0, help="Requests at once; 0 means no limit.")
    ] = None
    is_strict: Annotated[
        bool, typer.Option("--strict", help="Refuse request fields that Turnpike does not know.")
    ] = False

    strategy: Annotated[
        str, typer.Option(help="cheapest, fastest or balanced, unless a request says; account's.")
    ] = ""
    allow_external: Annotated[
        bool | None, typer.Option(help="Whether resellers may serve, unless a request says.")
    ] = None

    def request(self, account_id: str) -> Json:
        """Return the request that asks for it; what is absent is left to the key's tier."""
        wish = {
            "account_id": account_id,
            "name": self.name,
            "scopes": _split(self.scopes),
            "models": _split(self.models),
            "tier": self.tier,
            "dialect": self.dialect,
            "expire_time": moment(self.expires, is_past=False) if self.expires else None,
            "requests_per_minute": self.requests_per_minute,
            "tokens_per_minute": self.tokens_per_minute,
            "concurrent_requests": self.concurrency,
            "is_strict": self.is_strict,
            "routing_strategy": self.strategy,
            "is_external_allowed": self.allow_external,
            "request_id": new_request_id(),
        }
        return {name: value for name, value in wish.items() if value is not None}


@keys.command("create")
@gathered(NewKey)
def create(wish: NewKey) -> None:
    """Make a key; its secret is shown this once."""
    amount = nusd(wish.credit) if wish.credit is not None else 0
    client = connect(wish.admin, wish.config)
    account_id = find_account(client, wish.account)["account_id"]
    answer = client.call("auth", "CreateKey", wish.request(account_id))
    if amount:
        answer["balance"] = add_credit(client, account_id, amount)["balance"]
    if wish.as_json:
        print_json(answer)
        return
    typer.echo(answer["secret"])
    typer.echo(
        f"Key {principal(answer['key'])['key_id']}; the secret is not shown again.", err=True
    )
    if amount:
        typer.echo(f"Balance {usd(answer['balance']['available_nusd'])}.", err=True)


@keys.command("list")
def list_keys(
    *,
    account: AccountOption = None,
    limit: LimitOption = 100,
    admin: AdminOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List keys, oldest first."""
    client = connect(admin, config)
    request = {"account_id": find_account(client, account)["account_id"]} if account else {}
    found = list(client.pages("auth", "ListKeys", "keys", request=request, limit=limit))
    if as_json:
        print_json({"keys": found})
        return
    columns = ("KEY", "NAME", "HINT", "STATE", "TIER", "MODELS", "ACCOUNT", "CREATED")
    print_table(
        columns,
        (
            (
                principal(key)["key_id"],
                key["name"],
                key["hint"],
                key["state"].removeprefix("STATE_").lower(),
                principal(key)["tier"],
                ",".join(principal(key)["models"]) or "all",
                principal(key)["account_id"],
                key.get("create_time", ""),
            )
            for key in found
        ),
    )


@keys.command("revoke")
def revoke(
    key_id: KeyArgument,
    *,
    admin: AdminOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Refuse a key for ever, everywhere within 5 s."""
    answer = connect(admin, config).call("auth", "RevokeKey", {"key_id": key_id})
    if as_json:
        print_json(answer)
    else:
        typer.echo(f"Key {key_id} is revoked.")


@keys.command("rotate")
def rotate(
    key_id: KeyArgument,
    *,
    overlap: Annotated[
        str | None, typer.Option(help="How long the old secret goes on working: 24h, 0s.")
    ] = None,
    admin: AdminOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a key a new secret and let the old one run out."""
    request = {"key_id": key_id}
    if overlap is not None:
        request["overlap"] = f"{span_s(overlap)}s"
    answer = connect(admin, config).call("auth", "RotateKey", request)
    if as_json:
        print_json(answer)
    else:
        typer.echo(answer["secret"])
        typer.echo("The secret is not shown again.", err=True)


def _split(values: list[str] | None) -> list[str]:
    return [part.strip() for value in values or [] for part in value.split(",") if part.strip()]
