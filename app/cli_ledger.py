"""`turnpike ledger`: prove the books, read balances, rebuild the projection."""

from typing import Annotated

import typer

from app.admin_client import connect
from app.cli_options import (
    AdminOption,
    ConfigOption,
    JsonOption,
    LimitOption,
    find_account,
    print_json,
    print_table,
    usd,
)

ledger = typer.Typer(no_args_is_help=True, help="The books.")


@ledger.command("verify")
def verify(
    *, admin: AdminOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Recompute every balance and compare it with usage; exit 1 when something does not add up."""
    answer = connect(admin, config).call("payment", "VerifyLedger")
    if as_json:
        print_json(answer)
    else:
        for finding in answer["findings"]:
            typer.echo(f"{finding['check']}: {finding['subject']}: {finding['detail']}")
        verdict = "clean" if answer["is_clean"] else f"{len(answer['findings'])} findings"
        typer.echo(
            f"{verdict}: {answer['transaction_count']} transactions,"
            f" {answer['charge_count']} charges compared,"
            f" {usd(answer['charged_nusd'])} charged, {usd(answer['held_nusd'])} held"
            f" by {answer['open_hold_count']} holds in {answer['open_lease_count']} leases,"
            f" {usd(answer['writeoff_nusd'])} written off,"
            f" {usd(answer['refunded_nusd'])} given back,"
            f" {usd(answer['debt_nusd'])} owed by customers,"
            f" {usd(answer['owed_nusd'])} owed to suppliers and providers"
            f" by {answer['earning_count']} earnings."
        )
    if not answer["is_clean"]:
        raise typer.Exit(1)


@ledger.command("balance")
def balance(
    account: Annotated[str | None, typer.Argument(help="Account, name or id; else all.")] = None,
    *,
    limit: LimitOption = 1_000,
    admin: AdminOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show an account's balance, or every ledger account's."""
    client = connect(admin, config)
    if account is None:
        found = list(client.pages("payment", "ListBalances", "balances", limit=limit))
        answer: dict[str, object] = {"balances": found}
        rows = [(row["ledger_account"], usd(row["balance_nusd"])) for row in found]
    else:
        wish = {"account_id": find_account(client, account)["account_id"]}
        answer = client.call("payment", "GetBalance", wish)
        parts = ("available", "held", "promo", "debt", "charged")
        rows = [(part, usd(answer["balance"][f"{part}_nusd"])) for part in parts]  # type: ignore[index]
    if as_json:
        print_json(answer)
    else:
        print_table(("LEDGER ACCOUNT" if account is None else "PART", "BALANCE"), rows)


@ledger.command("rebuild")
def rebuild(
    *, admin: AdminOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Rebuild the balances from the entries."""
    answer = connect(admin, config).call("payment", "RebuildLedger")
    if as_json:
        print_json(answer)
    else:
        typer.echo(
            f"{answer['corrected_count']} of {answer['ledger_account_count']} balances corrected."
        )
