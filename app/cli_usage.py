"""`turnpike usage` and `turnpike models`: what was used, and what can be."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias

import typer

from app.admin_client import AdminClient, Json, connect
from app.cli_options import (
    AdminOption,
    ConfigOption,
    JsonOption,
    LimitOption,
    Reach,
    find_account,
    gathered,
    moment,
    print_json,
    print_table,
    usd,
)
from kit.ids import OPERATOR_ID
from kit.money import format_usd_of_pusd

usage = typer.Typer(no_args_is_help=True, help="Who used what.")
models = typer.Typer(no_args_is_help=True, help="The models that can be called.")


@dataclass(frozen=True, kw_only=True)
class UsageFilter(Reach):
    """Which usage is meant."""

    account: Annotated[
        str | None,
        typer.Option(help=f"Only this account, name or id; {OPERATOR_ID}: what nobody pays."),
    ] = None
    key: Annotated[str, typer.Option(help="Only this key id.")] = ""
    model: Annotated[str, typer.Option(help="Only this model.")] = ""
    since: Annotated[str | None, typer.Option(help="Not before: 24h, 2026-11-21.")] = None
    until: Annotated[str | None, typer.Option(help="Before: 1h, 2026-11-22.")] = None
    limit: LimitOption = 100

    def entries(self, method: str, field: str) -> list[Json]:
        """Return what metering answers."""
        client = connect(self.admin, self.config)
        wish = self.wish(client)
        return list(client.pages("metering", method, field, request=wish, limit=self.limit))

    def wish(self, client: AdminClient) -> Json:
        """Return the filter as metering takes it."""
        account_id = self.account or ""
        if account_id not in ("", OPERATOR_ID):
            account_id = find_account(client, self.account)["account_id"]
        wish = {"account_id": account_id, "key_id": self.key, "model_id": self.model}
        bounds = {"start_time": self.since, "end_time": self.until}
        return wish | {name: moment(text, is_past=True) for name, text in bounds.items() if text}


@dataclass(frozen=True, kw_only=True)
class RecordFilter(UsageFilter):
    """Which records are meant."""

    episode: Annotated[str, typer.Option(help="Only this episode id.")] = ""

    def wish(self, client: AdminClient) -> Json:
        """Return the filter as metering takes it."""
        return {**super().wish(client), "episode_id": self.episode}


_Column: TypeAlias = tuple[str, Callable[[Json], object]]
_COLUMNS: Final[tuple[_Column, ...]] = (
    ("STARTED", lambda record: record.get("start_time", "")),
    ("REQUEST", lambda record: record["request_id"]),
    ("MODEL", lambda record: record["model_id"]),
    ("PROMPT", lambda record: record.get("usage", {}).get("prompt_token_count", 0)),
    ("COMPLETION", lambda record: record.get("usage", {}).get("completion_token_count", 0)),
    ("CHARGE", lambda record: usd(record["charge_nusd"])),
    ("OUTCOME", lambda record: record["outcome"]),
    ("TTFT MS", lambda record: record["ttft_ms"]),
)


def _units(record: Json) -> str:
    return f"{record['usage']['unit_count']} {record['unit']}" if record["unit"] else ""


def _refund(record: Json) -> str:
    return usd(record["refund_nusd"]) if int(record["refund_nusd"]) else ""


_RARE_COLUMNS: Final[tuple[_Column, ...]] = (
    ("UNITS", _units),
    ("REFUND", _refund),
    ("EPISODE", lambda record: record["episode_id"]),
    ("OWN KEY", lambda record: "yes" if record["is_byok"] else ""),
)
"""Shown when a record has something there."""


@usage.command("list")
@gathered(RecordFilter)
def list_usage(wish: RecordFilter) -> None:
    """List finished requests, newest first."""
    found = wish.entries("ListUsage", "records")
    if wish.as_json:
        print_json({"records": found})
        return
    rare = [column for column in _RARE_COLUMNS if any(map(column[1], found))]
    columns = [*_COLUMNS, *rare]
    print_table(
        [name for name, _ in columns],
        ([cell(record) for _, cell in columns] for record in found),
    )


@usage.command("summary")
@gathered(UsageFilter)
def summarize(wish: UsageFilter) -> None:
    """Sum usage per hour, key and model, newest hour first."""
    found = wish.entries("SummarizeUsage", "summaries")
    if wish.as_json:
        print_json({"summaries": found})
        return
    print_table(
        ("HOUR", "MODEL", "KEY", "REQUESTS", "PROMPT", "COMPLETION", "CHARGE"),
        (
            (
                row.get("hour_time", ""),
                row["model_id"],
                row["key_id"],
                row["request_count"],
                row["prompt_token_count"],
                row["completion_token_count"],
                usd(row["charge_nusd"]),
            )
            for row in found
        ),
    )


@models.command("list")
def list_models(
    *,
    admin: AdminOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the models with their prices per million tokens."""
    answer = connect(admin, config).call("router", "ListModels")
    if as_json:
        print_json(answer)
        return
    found = answer["models"]
    rare = [column for column in _RARE_MODEL_COLUMNS if any(map(column[1], found))]
    columns = [*_MODEL_COLUMNS, *rare]
    print_table(
        [name for name, _ in columns],
        ([cell(model) for _, cell in columns] for model in found),
    )


def _unit_price(model: Json) -> str:
    low, high = (
        format_usd_of_pusd(int(model[f"{end}_price"]["unit_pusd"])) for end in ("floor", "ceiling")
    )
    return f"${low}" if low == high else f"${low}-${high}"


def _by_unit(model: Json) -> str:
    unit = model.get("ceiling_price", {}).get("unit")
    return f"{_unit_price(model)} per {unit}" if unit else ""


_MODEL_COLUMNS: Final[tuple[_Column, ...]] = (
    ("MODEL", lambda model: model["model_id"]),
    ("ALIASES", lambda model: ",".join(model["aliases"])),
    ("OWNER", lambda model: model["owner"]),
    ("CONTEXT", lambda model: model["context_length"]),
    ("INPUT $/M", lambda model: _price(model, "input_pusd_per_token")),
    ("OUTPUT $/M", lambda model: _price(model, "output_pusd_per_token")),
)
_RARE_MODEL_COLUMNS: Final[tuple[_Column, ...]] = (("UNIT", _by_unit),)


def _price(model: Json, field: str) -> str:
    """Return the span of a price in USD per million tokens, each a million times a pico-USD."""
    low, high = (
        usd(int(model.get(f"{end}_price", {}).get(field, 0)) * 1_000)
        for end in ("floor", "ceiling")
    )
    return low if low == high else f"{low}-{high}"
