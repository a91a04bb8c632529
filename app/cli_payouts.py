"""`turnpike payouts`: what suppliers and providers are owed, were paid, and cost."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer

from app.admin_client import AdminClient, AdminError, Json, connect
from app.cli_options import (
    AdminOption,
    ConfigOption,
    JsonOption,
    LimitOption,
    Reach,
    gathered,
    moment,
    new_request_id,
    nusd,
    print_json,
    print_table,
    usd,
)
from kit.money import format_usd
from kit.sheet import sheet

payouts = typer.Typer(
    no_args_is_help=True, help="What suppliers and providers are owed and were paid."
)

PayeeArgument = Annotated[
    str, typer.Argument(help="Supplier id; provider:NAME for what a provider is owed.")
]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print CSV, amounts as exact USD.")]


@dataclass(frozen=True, kw_only=True)
class CostFilter(Reach):
    """Which span of time is meant."""

    since: Annotated[str | None, typer.Option(help="Not before: 30d, 2026-11-01.")] = None
    until: Annotated[str | None, typer.Option(help="Before: 1h, 2026-12-01.")] = None
    limit: LimitOption = 1_000
    as_csv: CsvOption = False

    def span(self) -> Json:
        """Return the span as a request has it; what is not bounded is not in it."""
        bounds = {"start_time": self.since, "end_time": self.until}
        return {name: moment(text, is_past=True) for name, text in bounds.items() if text}


@payouts.command("list")
def list_payees(
    *,
    limit: LimitOption = 1_000,
    admin: AdminOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List who has earned what, was paid what, and is owed what."""
    client = connect(admin, config)
    found = list(client.pages("suppliers", "ListPayees", "payees", limit=limit))
    rows = [
        (row["payee_id"], *(_amount(row[f"{part}_nusd"]) for part in ("earned", "paid", "owed")))
        for row in found
    ]
    columns = ("PAYEE", "EARNED", "PAID", "OWED")
    _show({"payees": found}, columns, rows, as_json=as_json, as_csv=as_csv)


@dataclass(frozen=True, kw_only=True)
class Payment(Reach):
    """A payout that was made outside."""

    payee: PayeeArgument
    amount: Annotated[str, typer.Argument(help="USD, such as 10.00; all: what is owed.")]
    rail: Annotated[str, typer.Option(help="How it was paid, such as bank or tempo.")]
    reference: Annotated[str, typer.Option(help="What it is called there; booked once.")]


@payouts.command("pay")
@gathered(Payment)
def pay(wish: Payment) -> None:
    """Book that a payee was paid outside; never more than is owed."""
    client = connect(wish.admin, wish.config)
    payee_id = _payee_id(wish.payee)
    amount_nusd = _owed(client, payee_id) if wish.amount == "all" else nusd(wish.amount)
    request = {
        "payee_id": payee_id,
        "amount_nusd": amount_nusd,
        "rail": wish.rail,
        "reference": wish.reference,
        "request_id": new_request_id(),
    }
    answer = client.call("suppliers", "CreatePayout", request)
    if wish.as_json:
        print_json(answer)
    else:
        payout_id = answer["payout"]["payout_id"]
        typer.echo(f"Payout {payout_id}: {usd(amount_nusd)}; {usd(answer['owed_nusd'])} is owed.")


@dataclass(frozen=True, kw_only=True)
class Statement(CostFilter):
    """Which part of a payee's books is meant."""

    payee: PayeeArgument
    earnings: Annotated[
        bool, typer.Option("--earnings", help="What each request earned, not the payouts.")
    ] = False


@payouts.command("show")
@gathered(Statement)
def show(wish: Statement) -> None:
    """Show a payee's payouts, or what each request of a span of time earned it."""
    client = connect(wish.admin, wish.config)
    request: Json = {"payee_id": _payee_id(wish.payee)}
    if wish.earnings:
        request |= wish.span()
        field, method, view = "earnings", "ListEarnings", (_EARNING_COLUMNS, _earning_row)
    elif wish.span():
        raise AdminError("--since and --until are for --earnings.")
    else:
        field, method, view = "payouts", "ListPayouts", (_PAYOUT_COLUMNS, _payout_row)
    found = list(client.pages("suppliers", method, field, request=request, limit=wish.limit))
    columns, row_of = view
    _show({field: found}, columns, map(row_of, found), as_json=wish.as_json, as_csv=wish.as_csv)


@payouts.command("costs")
@gathered(CostFilter)
def costs(wish: CostFilter) -> None:
    """Compare what was sold with what it costs, per provider, supplier and model."""
    client = connect(wish.admin, wish.config)
    request, limit = wish.span(), wish.limit
    found = list(
        client.pages("suppliers", "SummarizeCosts", "summaries", request=request, limit=limit)
    )
    columns = ("PROVIDER", "SUPPLIER", "MODEL", "REQUESTS", "REVENUE", "COST", "MARGIN")
    rows = [_cost_row(row) for row in found]
    _show({"summaries": found}, columns, rows, as_json=wish.as_json, as_csv=wish.as_csv)


_EARNING_COLUMNS: Final[Sequence[str]] = (
    "SETTLED",
    "EVENT",
    "PROVIDER",
    "MODEL",
    "PAID",
    "FEE BPS",
    "EARNED",
)
_PAYOUT_COLUMNS: Final[Sequence[str]] = ("BOOKED", "PAYOUT", "AMOUNT", "RAIL", "REFERENCE")


def _earning_row(row: Json) -> Sequence[object]:
    return (
        row["settle_time"],
        row["event_id"],
        row["provider"],
        row["model_id"],
        _amount(row["paid_nusd"]),
        row.get("fee_bps", ""),
        _amount(row["owed_nusd"]),
    )


def _payout_row(row: Json) -> Sequence[object]:
    return (
        row["create_time"],
        row["payout_id"],
        _amount(row["amount_nusd"]),
        row["rail"],
        row["reference"],
    )


def _cost_row(row: Json) -> Sequence[object]:
    paid, owed = int(row["paid_nusd"]), int(row["owed_nusd"])
    return (
        row["provider"],
        row["supplier_id"],
        row["model_id"],
        row["request_count"],
        _amount(paid),
        _amount(owed),
        _amount(paid - owed),
    )


def _amount(amount_nusd: Any) -> str:  # noqa: ANN401 - a number or its text, as JSON has it
    return format_usd(int(amount_nusd))


def _show(
    answer: Json,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    as_json: bool,
    as_csv: bool,
) -> None:
    if as_json:
        print_json(answer)
    elif as_csv:
        names = [name.lower().replace(" ", "_") for name in columns]
        for line in sheet(names, (map(str, row) for row in rows)):
            typer.echo(line, nl=False)
    else:
        print_table(columns, rows)


def _payee_id(payee: str) -> str:
    return payee if payee.startswith(("supplier:", "provider:")) else f"supplier:{payee}"


def _owed(client: AdminClient, payee_id: str) -> int:
    for row in client.pages("suppliers", "ListPayees", "payees", limit=100_000):
        if row["payee_id"] == payee_id and int(row["owed_nusd"]):
            return int(row["owed_nusd"])
    raise AdminError(f"Nothing is owed to {payee_id}.")
