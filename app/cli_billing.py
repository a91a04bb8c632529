"""`turnpike billing`: top-ups by card, how accounts pay, refunds and invoices."""

from typing import Annotated

import typer

from app.admin_client import AdminClient, AdminError, Json, connect
from app.cli_options import (
    AdminOption,
    ConfigOption,
    JsonOption,
    LimitOption,
    find_account,
    new_request_id,
    nusd,
    print_json,
    print_table,
    usd,
)

billing = typer.Typer(no_args_is_help=True, help="Payment by card: top-ups, refunds, invoices.")

AccountArgument = Annotated[str, typer.Argument(help="Account, name or id.")]


@billing.command("checkout")
def checkout(
    account: AccountArgument,
    amount: Annotated[str, typer.Argument(help="USD, such as 10.00.")],
    *,
    admin: AdminOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a link by which somebody pays for a top-up; the card is saved."""
    amount_nusd = nusd(amount)
    client = connect(admin, config)
    request = {
        "account_id": find_account(client, account)["account_id"],
        "amount_nusd": amount_nusd,
        "request_id": new_request_id(),
    }
    answer = client.call("billing", "CreateCheckout", request)
    if as_json:
        print_json(answer)
    else:
        typer.echo(answer["url"])


@billing.command("show")
def show(
    account: AccountArgument,
    *,
    admin: AdminOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how an account pays and where it stands."""
    client = connect(admin, config)
    request = {"account_id": find_account(client, account)["account_id"]}
    _show(client.call("billing", "GetBilling", request)["billing"], as_json=as_json)


@billing.command("payments")
def payments(
    account: AccountArgument,
    *,
    limit: LimitOption = 100,
    admin: AdminOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List an account's card payments, newest first."""
    client = connect(admin, config)
    request = {"account_id": find_account(client, account)["account_id"]}
    found = list(client.pages("billing", "ListPayments", "payments", request=request, limit=limit))
    if as_json:
        print_json({"payments": found})
        return
    print_table(
        ("PAYMENT", "PAID", "TAKEN BACK"),
        (
            (each["payment_id"], usd(each["paid_nusd"]), usd(each["reversed_nusd"]))
            for each in found
        ),
    )


@billing.command("refund")
def refund(
    payment: Annotated[str, typer.Argument(help="Payment, as `billing payments` lists it.")],
    amount: Annotated[
        str | None, typer.Argument(help="USD, such as 2.50; all that is left of it by default.")
    ] = None,
    *,
    request_id: Annotated[
        str | None, typer.Option(help="Id of a refund that was not answered, to ask again.")
    ] = None,
    admin: AdminOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a card payment back; what the account does not have becomes debt."""
    request = {
        "payment_id": payment,
        "amount_nusd": nusd(amount) if amount is not None else 0,
        "request_id": request_id or new_request_id(),
    }
    client = connect(admin, config)
    try:
        answer = client.call("billing", "RefundPayment", request)
    except AdminError as error:
        raise AdminError(f"{error} (--request-id {request['request_id']})") from error
    if as_json:
        print_json(answer)
        return
    typer.echo(f"{answer['refund_id']}: {usd(answer['amount_nusd'])} given back.")


@billing.command("postpaid")
def postpaid(
    account: AccountArgument,
    *,
    is_on: Annotated[
        bool, typer.Option("--on/--off", help="Whether it uses first and pays later.")
    ] = True,
    admin: AdminOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give an account with a saved card a credit limit, or take it back."""
    client = connect(admin, config)
    request = {"account_id": find_account(client, account)["account_id"], "is_postpaid": is_on}
    _show(client.call("billing", "SetPostpaid", request)["billing"], as_json=as_json)


@billing.command("invoice")
def invoice(
    account: AccountArgument,
    month: Annotated[str, typer.Argument(help="Such as 2026-11; all months by default.")] = "",
    *,
    admin: AdminOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what an account paid and used in a month, or list its months."""
    client = connect(admin, config)
    account_id = find_account(client, account)["account_id"]
    if month:
        _print_invoice(client, account_id, month, as_json=as_json)
        return
    answer = client.call("billing", "ListInvoices", {"account_id": account_id})
    if as_json:
        print_json(answer)
        return
    names = ("opening", "credited", "charged", "refunded", "reversed", "closing")
    print_table(
        ("MONTH", *map(str.upper, names)),
        (
            (each["period"], *(usd(each[f"{name}_nusd"]) for name in names))
            for each in answer["invoices"]
        ),
    )


def _print_invoice(client: AdminClient, account_id: str, month: str, *, as_json: bool) -> None:
    request = {"account_id": account_id, "period": month}
    answer = client.call("billing", "GetInvoice", request)
    if as_json:
        print_json(answer)
        return
    found = answer["invoice"]
    lines = [
        (each["kind"], each["subject"], each["count"], usd(each["amount_nusd"]))
        for each in found["lines"]
    ]
    print_table(
        ("WHAT", "OF", "COUNT", "AMOUNT"),
        (
            ("opening", "", "", usd(found["opening_nusd"])),
            *lines,
            ("closing", "", "", usd(found["closing_nusd"])),
        ),
    )


def _show(found: Json, *, as_json: bool) -> None:
    if as_json:
        print_json({"billing": found})
        return
    recharge = found.get("auto_recharge")
    rows = [
        ("standing", str(found["standing"]).removeprefix("STANDING_").lower()),
        *((name, usd(found[f"{name}_nusd"])) for name in ("available", "held", "debt")),
        ("card", "saved" if found["has_card"] else "none"),
        ("declines", found["decline_count"]),
    ]
    if recharge:
        rows.append(
            ("recharge", f"{usd(recharge['amount_nusd'])} below {usd(recharge['below_nusd'])}")
        )
    if found["is_postpaid"]:
        rows.append(("credit limit", usd(found["credit_limit_nusd"])))
        rows.append(("not billed", usd(found["unbilled_nusd"])))
    print_table(("WHAT", "IS"), rows)
