"""The `turnpike` command. Exit codes: 0 done; 1 refused, failed or not clean; 2 wrong usage.

Each noun lives in a file of its own; slow imports happen inside the command that needs them.
"""

from enum import StrEnum
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from app.admin_client import AdminError
from app.cli_accounts import accounts
from app.cli_billing import billing
from app.cli_byok import byok
from app.cli_caps import add_caps
from app.cli_config import config_app, db
from app.cli_keys import keys
from app.cli_ledger import ledger
from app.cli_options import ConfigOption, JsonOption, print_json
from app.cli_payouts import payouts
from app.cli_receipts import receipts
from app.cli_route import route
from app.cli_usage import models, usage
from app.errors import StartError
from app.settings_layers import ConfigError


class Target(StrEnum):
    """What one process runs."""

    ALL = "all"
    GATEWAY = "gateway"
    AUTH = "auth"
    ROUTER = "router"
    METERING = "metering"
    PAYMENT = "payment"


class _Root(TyperGroup):
    """Tells expected failures in one line."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - typer's own types
        try:
            return super().invoke(ctx)
        except (AdminError, ConfigError, StartError) as error:
            for line in str(error).splitlines():
                typer.echo(f"turnpike: {line}", err=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=_Root,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="An inference gateway and exchange that you run.",
    epilog="Exit codes: 0 done; 1 refused, failed or not clean; 2 wrong usage.",
)
add_caps(accounts, keys)
app.add_typer(keys, name="keys")
app.add_typer(accounts, name="accounts")
app.add_typer(billing, name="billing")
app.add_typer(byok, name="byok")
app.add_typer(models, name="models")
app.add_typer(usage, name="usage")
app.add_typer(route, name="route")
app.add_typer(ledger, name="ledger")
app.add_typer(receipts, name="receipts")
app.add_typer(payouts, name="payouts")
app.add_typer(config_app, name="config")
app.add_typer(db, name="db")


@app.command("serve")
def serve(
    *,
    config: ConfigOption = None,
    target: Annotated[Target, typer.Option(help="What this process runs.")] = Target.ALL,
) -> None:
    """Run the services until Ctrl-C or SIGTERM."""
    from app.lifecycle import run  # noqa: PLC0415 - imports every service
    from app.settings import load_settings  # noqa: PLC0415

    raise typer.Exit(run(load_settings(config), str(target)))


@app.command("doctor")
def doctor(
    *,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check settings, ports, NATS, Triton, providers, clock and databases."""
    import asyncio  # noqa: PLC0415

    from app.doctor import examine  # noqa: PLC0415
    from app.settings import load_settings  # noqa: PLC0415

    findings = asyncio.run(examine(load_settings(config)))
    is_well = all(finding.is_well for finding in findings)
    if as_json:
        print_json({"is_well": is_well, "checks": [finding.as_dict() for finding in findings]})
    else:
        for finding in findings:
            typer.echo(f"{finding.state:<5} {finding.check}: {finding.detail}")
    if not is_well:
        raise typer.Exit(1)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
