"""`turnpike ledger`: prove the books, read balances, rebuild the projection."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import typer

from app.admin_client import AdminClient, AdminError, Json, connect
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

RootsOption = Annotated[
    Path | None, typer.Option("--roots", help="Copy of the roots file; payment's own by default.")
]
KeysOption = Annotated[
    list[str] | None,
    typer.Option("--key", help="Public key to trust besides the one in use, hex; may be repeated."),
]
_LINES_MAX: Final = 32
_LINE_CHARS_MAX: Final = 1024 * 1024
_BATCH_CHARS_MAX: Final = 400 * 1024

ledger = typer.Typer(no_args_is_help=True, help="The books.")


@ledger.command("verify")
def verify(
    *,
    roots: RootsOption = None,
    keys: KeysOption = None,
    admin: AdminOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute the books and compare them with usage and with signed roots; exit 1 if not clean.

    The roots are those of the file that payment writes, or of a copy that was kept elsewhere.
    """
    client = connect(admin, config)
    answer = client.call("payment", "VerifyLedger")
    proven = _verify_roots(client, roots, keys or [])
    answer["findings"] = [*answer["findings"], *proven.pop("findings")]
    answer["is_clean"] = not answer["findings"]
    answer["roots"] = proven
    if as_json:
        print_json(answer)
    else:
        _print_verdict(answer)
    if not answer["is_clean"]:
        raise typer.Exit(1)


def _print_verdict(answer: Json) -> None:
    for finding in answer["findings"]:
        typer.echo(f"{finding['check']}: {finding['subject']}: {finding['detail']}")
    verdict = "clean" if answer["is_clean"] else f"{len(answer['findings'])} findings"
    roots = answer["roots"]
    typer.echo(
        f"{verdict}: {answer['transaction_count']} transactions,"
        f" {answer['charge_count']} charges compared,"
        f" {usd(answer['charged_nusd'])} charged, {usd(answer['held_nusd'])} held"
        f" by {answer['open_hold_count']} holds in {answer['open_lease_count']} leases,"
        f" {usd(answer['writeoff_nusd'])} written off,"
        f" {usd(answer['refunded_nusd'])} given back,"
        f" {usd(answer['debt_nusd'])} owed by customers,"
        f" {usd(answer['owed_nusd'])} owed to suppliers and providers"
        f" by {answer['earning_count']} earnings;"
        f" {roots['root_count']} signed roots cover {roots['transaction_count']} transactions"
        f" and {roots['receipt_count']} receipts."
    )


def _verify_roots(client: AdminClient, path: Path | None, keys: list[str]) -> Json:
    """Return what the signed roots say: the findings, and the counts of what was compared."""
    counts = dict.fromkeys(("root_count", "transaction_count", "receipt_count"), 0)
    findings: list[Json] = []
    token = ""
    batches = iter([[]] if path is None else _line_batches(path))
    lines: list[str] | None = next(batches, None)
    while lines is not None:
        wish = {"lines": lines, "page_token": token, "public_keys": keys}
        page = client.call("receipts", "VerifyRoots", wish)
        findings += page["findings"]
        for name in counts:
            counts[name] += int(page[name])
        token = page["page_token"]
        if not page["has_more"]:
            lines = next(batches, None)
    return {**counts, "findings": findings}


def _line_batches(path: Path) -> Iterator[list[str]]:
    """Yield the lines of a file, few enough at once for one call."""
    batch: list[str] = []
    size = 0
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            while line := file.readline(_LINE_CHARS_MAX):
                if batch and (size + len(line) > _BATCH_CHARS_MAX or len(batch) == _LINES_MAX):
                    yield batch
                    batch, size = [], 0
                batch.append(line.rstrip("\n"))
                size += len(line)
    except OSError as error:
        raise AdminError(f"{path} cannot be read: {error.strerror}.") from error
    if batch:
        yield batch


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
