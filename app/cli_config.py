"""`turnpike config` and `turnpike db`: settings and databases, without a running Turnpike."""

import asyncio
from typing import Annotated

import typer

from app.cli_options import ConfigOption, JsonOption, print_json
from app.settings import load_settings
from app.settings_layers import ConfigError

config_app = typer.Typer(no_args_is_help=True, help="Settings.")
db = typer.Typer(no_args_is_help=True, help="Databases.")


@config_app.command("check")
def check(*, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check every setting and print what holds and where it comes from; exit 1 on a mistake."""
    from app.settings_report import check_catalogue, effective  # noqa: PLC0415

    try:
        loaded = load_settings(config)
        check_catalogue(loaded.config_path)
    except ConfigError as error:
        if as_json:
            print_json({"is_valid": False, "errors": str(error).splitlines()})
            raise typer.Exit(1) from error
        raise
    found = effective(loaded)
    if as_json:
        print_json({"is_valid": True, "settings": found})
        return
    for entry in found:
        typer.echo(f"{entry['key']} = {entry['value']}  ({entry['source']})")


@config_app.command("schema")
def schema(*, as_json: JsonOption = False) -> None:
    """Print the JSON Schema of turnpike.yaml."""
    from app.settings_report import file_schema  # noqa: PLC0415

    print_json(file_schema())


@config_app.command("example")
def example(*, as_json: JsonOption = False) -> None:
    """Print a turnpike.yaml with every setting and its default."""
    from app.settings_report import example_yaml  # noqa: PLC0415

    if as_json:
        print_json({"yaml": example_yaml()})
    else:
        typer.echo(example_yaml(), nl=False)


@db.command("upgrade")
def upgrade(
    *,
    room: Annotated[
        str | None, typer.Option(help="Only auth, metering, payment or router.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring the rooms' databases to the newest form; safe to repeat."""
    from app.databases import room_databases, upgrade_database  # noqa: PLC0415

    databases = room_databases(load_settings(config).settings)
    wanted = [room] if room else list(databases)
    if unknown := [name for name in wanted if name not in databases]:
        raise ConfigError(f"{unknown[0]} has no database; there are {', '.join(databases)}.")
    for name in wanted:
        asyncio.run(upgrade_database(databases[name]))
        if not as_json:
            typer.echo(f"{name}: {databases[name].shown_url} is up to date.")
    if as_json:
        print_json({"upgraded": wanted})
