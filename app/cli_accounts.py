"""`turnpike accounts`: make and list accounts, and give them credit."""

from dataclasses import dataclass
from typing import Annotated

import typer

from app.admin_client import connect
from app.cli_options import (
    AdminOption,
    ConfigOption,
    JsonOption,
    LimitOption,
    Reach,
    add_credit,
    find_account,
    gathered,
    new_request_id,
    nusd,
    print_json,
    print_table,
    usd,
)

accounts = typer.Typer(no_args_is_help=True, help="Accounts and their credit.")


@accounts.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What people call it.")],
    *,
    credit: Annotated[str | None, typer.Option(help="USD to start with, such as 10.00.")] = None,
    strategy: Annotated[
        str, typer.Option(help="cheapest, fastest or balanced, unless key or request say.")
    ] = "",
    admin: AdminOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an account."""
    amount = nusd(credit) if credit is not None else 0
    client = connect(admin, config)
    request = {"name": name, "request_id": new_request_id(), "routing_strategy": strategy}
    answer = client.call("auth", "CreateAccount", request)
    account_id = answer["account"]["account_id"]
    if amount:
        answer["balance"] = add_credit(client, account_id, amount)["balance"]
    if as_json:
        print_json(answer)
    else:
        typer.echo(account_id)


@accounts.command("list")
def list_accounts(
    *,
    limit: LimitOption = 100,
    admin: AdminOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List accounts with their balances, oldest first."""
    client = connect(admin, config)
    found = list(client.pages("auth", "ListAccounts", "accounts", limit=limit))
    for account in found:
        wish = {"account_id": account["account_id"]}
        account["balance"] = client.call("payment", "GetBalance", wish)["balance"]
    if as_json:
        print_json({"accounts": found})
        return
    print_table(
        ("ACCOUNT", "NAME", "AVAILABLE", "HELD", "CHARGED", "DEBT"),
        (
            (
                account["account_id"],
                account["name"],
                *(
                    usd(account["balance"][f"{part}_nusd"])
                    for part in ("available", "held", "charged", "debt")
                ),
            )
            for account in found
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Credit(Reach):
    """What is credited to whom."""

    account: Annotated[str, typer.Argument(help="Account, name or id.")]
    amount: Annotated[str, typer.Argument(help="USD, such as 10.00.")]
    source: Annotated[str, typer.Option(help="Why: manual, promo.")] = "manual"
    expires: Annotated[
        str | None, typer.Option(help="When what is left of a promo ends: 30d, 2027-01-01.")
    ] = None


@accounts.command("credit")
@gathered(Credit)
def credit_account(wish: Credit) -> None:
    """Add credit to an account."""
    amount_nusd = nusd(wish.amount)
    client = connect(wish.admin, wish.config)
    account_id = find_account(client, wish.account)["account_id"]
    answer = add_credit(client, account_id, amount_nusd, wish.source, wish.expires)
    if wish.as_json:
        print_json(answer)
    else:
        typer.echo(f"Balance {usd(answer['balance']['available_nusd'])}.")
