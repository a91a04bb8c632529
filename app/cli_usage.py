"""`turnpike usage` and `turnpike models`: what was used, and what can be."""

from typing import Annotated

import typer

from app.admin_client import AdminClient, Json, connect
from app.cli_options import (
    AdminOption,
    ConfigOption,
    JsonOption,
    LimitOption,
    find_account,
    moment,
    print_json,
    print_table,
    usd,
)

usage = typer.Typer(no_args_is_help=True, help="Who used what.")
models = typer.Typer(no_args_is_help=True, help="The models that can be called.")
AccountFilter = Annotated[str | None, typer.Option("--account", help="Only this account.")]
KeyFilter = Annotated[str, typer.Option("--key", help="Only this key id.")]
ModelFilter = Annotated[str, typer.Option("--model", help="Only this model.")]
Since = Annotated[str | None, typer.Option("--since", help="Not before: 24h, 2026-11-21.")]
Until = Annotated[str | None, typer.Option("--until", help="Before: 1h, 2026-11-22.")]


@usage.command("list")
def list_usage(  # noqa: PLR0913 - one for each option
    *,
    account: AccountFilter = None,
    key: KeyFilter = "",
    model: ModelFilter = "",
    since: Since = None,
    until: Until = None,
    limit: LimitOption = 100,
    admin: AdminOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List finished requests, newest first."""
    client = connect(admin, config)
    wish = _filter(client, account, key, model) | _bounds(since, until)
    found = list(client.pages("metering", "ListUsage", "records", request=wish, limit=limit))
    if as_json:
        print_json({"records": found})
        return
    print_table(
        ("STARTED", "REQUEST", "MODEL", "PROMPT", "COMPLETION", "CHARGE", "OUTCOME", "TTFT MS"),
        (
            (
                record.get("start_time", ""),
                record["request_id"],
                record["model_id"],
                record.get("usage", {}).get("prompt_token_count", 0),
                record.get("usage", {}).get("completion_token_count", 0),
                usd(record["charge_nusd"]),
                record["outcome"],
                record["ttft_ms"],
            )
            for record in found
        ),
    )


@usage.command("summary")
def summarize(  # noqa: PLR0913 - one for each option
    *,
    account: AccountFilter = None,
    key: KeyFilter = "",
    model: ModelFilter = "",
    since: Since = None,
    until: Until = None,
    limit: LimitOption = 1_000,
    admin: AdminOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sum usage per hour, key and model, newest hour first."""
    client = connect(admin, config)
    wish = _filter(client, account, key, model) | _bounds(since, until)
    found = list(client.pages("metering", "SummarizeUsage", "summaries", request=wish, limit=limit))
    if as_json:
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
    print_table(
        ("MODEL", "ALIASES", "OWNER", "CONTEXT", "INPUT $/M", "OUTPUT $/M"),
        (
            (
                model["model_id"],
                ",".join(model["aliases"]),
                model["owner"],
                model["context_length"],
                _price(model, "input_pusd_per_token"),
                _price(model, "output_pusd_per_token"),
            )
            for model in answer["models"]
        ),
    )


def _filter(client: AdminClient, account: str | None, key: str, model: str) -> Json:
    account_id = find_account(client, account)["account_id"] if account else ""
    return {"account_id": account_id, "key_id": key, "model_id": model}


def _bounds(since: str | None, until: str | None) -> Json:
    bounds = {"start_time": since, "end_time": until}
    return {name: moment(text, is_past=True) for name, text in bounds.items() if text}


def _price(model: Json, field: str) -> str:
    """Return the span of a price in USD per million tokens, each a million times a pico-USD."""
    low, high = (
        usd(int(model.get(f"{end}_price", {}).get(field, 0)) * 1_000)
        for end in ("floor", "ceiling")
    )
    return low if low == high else f"{low}-{high}"
