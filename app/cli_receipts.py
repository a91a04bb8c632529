"""`turnpike receipts`: take an account's bill along, and prove it without anybody's help."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Final

import typer

from app.admin_client import AdminClient, AdminError, connect
from app.cli_options import (
    AdminOption,
    ConfigOption,
    JsonOption,
    find_account,
    print_json,
    usd,
)
from kit.sheet import sheet

_PAGE: Final = 100
_LINE_CHARS_MAX: Final = 128 * 1024
AccountOption = Annotated[str, typer.Option("--account", help="Account, name or id.")]
KeyOption = Annotated[
    list[str], typer.Option("--key", help="Public key that signed, hex or a file; may be repeated.")
]

receipts = typer.Typer(no_args_is_help=True, help="Receipts and what proves them.")


@receipts.command("export")
def export(
    *,
    account: AccountOption,
    admin: AdminOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A table, without the proofs.")] = False,
) -> None:
    """Write an account's receipts with their proofs to standard output.

    They are JSON lines, which `turnpike receipts verify` reads; with `--json` one array of them.
    """
    client = connect(admin, config)
    lines = _exported(client, str(find_account(client, account)["account_id"]))
    if as_json:
        print_json([json.loads(line) for line in lines])
    elif as_csv:
        for row in _sheet(lines):
            typer.echo(row, nl=False)
    else:
        for line in lines:
            typer.echo(line)


def _sheet(lines: Iterable[str]) -> Iterator[str]:
    from services.payment.proof.receipts import FIELDS  # noqa: PLC0415 - slow to import

    found = (json.loads(line) for line in lines)
    rows = (
        [*(each["receipt"][name] for name in FIELDS), each["hash"]]
        for each in found
        if each["type"] == "receipt"
    )
    return sheet((*FIELDS, "hash"), rows)


def _exported(client: AdminClient, account_id: str) -> Iterator[str]:
    from services.payment.proof.bill import Sums, head_line  # noqa: PLC0415 - slow to import

    yield head_line(account_id)
    sums, shown, token = Sums(), set[str](), ""
    while True:
        wish = {"account_id": account_id, "page_size": _PAGE, "page_token": token}
        page = client.call("receipts", "ListReceipts", wish)
        fresh = [root for root in page["roots"] if root not in shown]
        # Only the last root of a page can cover receipts of the next one.
        shown = set(page["roots"][-1:]) or shown
        yield from fresh
        for line in page["receipts"]:
            members = json.loads(line)
            sums.add(members["receipt"], members["hash"])
            yield line
        token = page["next_page_token"]
        if not token:
            break
    yield sums.line()


@receipts.command("verify")
def verify(
    file: Annotated[Path, typer.Argument(help="What `turnpike receipts export` wrote.")],
    *,
    key: KeyOption,
    as_json: JsonOption = False,
) -> None:
    """Prove a bill without a database or a network; exit 1 when something does not add up."""
    from services.payment.proof.bill import BillCheck  # noqa: PLC0415 - slow to import
    from services.payment.proof.signing import Keyring, public_key_of  # noqa: PLC0415

    try:
        check = BillCheck(Keyring(public_key_of(_key_text(each)) for each in key))
    except ValueError as error:
        raise AdminError(f"--key: {error}") from error
    check.check(_lines(file))
    sums = check.sums.members()
    if as_json:
        print_json(
            {
                "is_clean": not check.findings,
                "findings": check.findings,
                "account_id": check.account_id,
                "root_count": check.root_count,
                "unsigned_count": check.unsigned_count,
                **sums,
            }
        )
    else:
        for finding in check.findings:
            typer.echo(finding)
        verdict = f"{len(check.findings)} findings" if check.findings else "clean"
        signed = check.sums.receipt_count - check.unsigned_count
        typer.echo(
            f"{verdict}: {sums['receipt_count']} receipts of {check.account_id},"
            f" {signed} of them signed by {check.root_count} roots,"
            f" {usd(sums['charged_nusd'])} charged, {usd(sums['refunded_nusd'])} given back."
        )
    if check.findings:
        raise typer.Exit(1)


@receipts.command("key")
def show_key(
    *, admin: AdminOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Show the public key that bills are proven with."""
    answer = connect(admin, config).call("receipts", "GetPublicKey")
    if as_json:
        print_json(answer)
    else:
        typer.echo(answer["public_key"] or "Nothing is signed here.")


def _key_text(text: str) -> str:
    path = Path(text)
    try:
        return path.read_text() if path.is_file() else text
    except OSError as error:
        raise AdminError(f"{text} cannot be read: {error.strerror}.") from error


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            while line := file.readline(_LINE_CHARS_MAX):
                yield line.rstrip("\n")
    except OSError as error:
        raise AdminError(f"{path} cannot be read: {error.strerror}.") from error
