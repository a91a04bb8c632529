"""`turnpike accounts cap`, `turnpike keys cap` and what shows them: spend caps and budgets."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

import typer

from app.admin_client import AdminClient, AdminError, Json, connect
from app.cli_keys import KeyArgument
from app.cli_options import (
    AdminOption,
    ConfigOption,
    JsonOption,
    LimitOption,
    Reach,
    find_account,
    gathered,
    new_request_id,
    principal,
    print_json,
    print_table,
    usd,
)
from kit.money import nusd_from_usd

_KEYS_MAX: Final = 100_000
AccountArgument = Annotated[str, typer.Argument(help="Account, name or id.")]
AmountOption = Annotated[
    str | None, typer.Option("--limit", help="USD, such as 5.00; 0 lets nothing through.")
]
RemoveOption = Annotated[bool, typer.Option("--remove", help="Remove the cap.")]


class Period(StrEnum):
    """For how long use counts."""

    DAY = "day"
    MONTH = "month"
    TOTAL = "total"


class KeyPeriod(StrEnum):
    """The same for a key, or for each of its episodes alone."""

    DAY = "day"
    MONTH = "month"
    TOTAL = "total"
    EPISODE = "episode"


@dataclass(frozen=True, kw_only=True)
class NewLimit(Reach):
    """What becomes of a cap."""

    limit: AmountOption = None
    is_removed: RemoveOption = False


@dataclass(frozen=True, kw_only=True)
class AccountCap(NewLimit):
    """An account's cap."""

    account: AccountArgument
    window: Annotated[
        Period, typer.Option(help="For how long use counts: day, month or total, by UTC.")
    ] = Period.MONTH


@dataclass(frozen=True, kw_only=True)
class KeyCap(NewLimit):
    """A key's cap, or the budget of its episodes."""

    key_id: KeyArgument
    window: Annotated[
        KeyPeriod,
        typer.Option(help="For how long use counts, by UTC; or that it is each episode's budget."),
    ] = KeyPeriod.MONTH


@dataclass(frozen=True, kw_only=True)
class EpisodeCap(NewLimit):
    """An episode."""

    account: AccountArgument
    episode_id: Annotated[str, typer.Argument(help="Episode, a UUID of version 7.")]


def add_caps(accounts: typer.Typer, keys: typer.Typer) -> None:
    """Add the commands of caps to those of accounts and keys."""
    accounts.command("cap")(gathered(AccountCap)(cap_account))
    accounts.command("caps")(list_caps)
    accounts.command("episode")(gathered(EpisodeCap)(episode))
    keys.command("cap")(gathered(KeyCap)(cap_key))


def cap_account(wish: AccountCap) -> None:
    """Cap what an account may spend."""
    client = connect(wish.admin, wish.config)
    account_id = find_account(client, wish.account)["account_id"]
    _change(client, _name(account_id, "ACCOUNT", "", wish.window.name), wish)


def cap_key(wish: KeyCap) -> None:
    """Cap what a key may spend, or give each episode that it works for a budget."""
    client = connect(wish.admin, wish.config)
    account_id = _account_of(client, wish.key_id)
    if wish.window is KeyPeriod.EPISODE:
        name = _name(account_id, "KEY_EPISODE", wish.key_id, "TOTAL")
    else:
        name = _name(account_id, "KEY", wish.key_id, wish.window.name)
    _change(client, name, wish)


def list_caps(
    account: AccountArgument,
    *,
    has_episodes: Annotated[
        bool, typer.Option("--episodes", help="Those of episodes too.")
    ] = False,
    limit: LimitOption = 100,
    admin: AdminOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List an account's caps and its keys', with what is used of them."""
    client = connect(admin, config)
    account_id = find_account(client, account)["account_id"]
    request = {"account_id": account_id, "has_episodes": has_episodes}
    found = list(client.pages("caps", "ListCaps", "caps", request=request, limit=limit))
    if as_json:
        print_json({"caps": found})
        return
    print_table(
        ("SCOPE", "SUBJECT", "WINDOW", "LIMIT", "USED", "RESETS"),
        (
            (
                cap["name"]["scope"].removeprefix("SCOPE_").lower(),
                cap["name"]["subject"] or "-",
                cap["name"]["window"].removeprefix("WINDOW_").lower(),
                usd(cap["limit_nusd"]),
                usd(cap["used_nusd"]),
                cap.get("reset_time") or "-",
            )
            for cap in found
        ),
    )


def episode(wish: EpisodeCap) -> None:
    """Show an episode, or set or remove its budget."""
    client = connect(wish.admin, wish.config)
    account_id = find_account(client, wish.account)["account_id"]
    episode_id = wish.episode_id.lower()
    if wish.limit is not None or wish.is_removed:
        _change(client, _name(account_id, "EPISODE", episode_id, "TOTAL"), wish)
        return
    asked = {"account_id": account_id, "episode_id": episode_id}
    found = client.call("caps", "GetEpisode", asked)
    if wish.as_json:
        print_json(found)
        return
    budget = usd(found["limit_nusd"]) if found["is_capped"] else "none"
    typer.echo(
        f"Budget {budget}, spent {usd(found['spent_nusd'])}, held {usd(found['held_nusd'])}."
    )


def _name(account_id: str, scope: str, subject: str, window: str) -> Json:
    return {
        "account_id": account_id,
        "scope": f"SCOPE_{scope}",
        "subject": subject,
        "window": f"WINDOW_{window}",
    }


def _change(client: AdminClient, name: Json, wish: NewLimit) -> None:
    if wish.is_removed == (wish.limit is not None):
        raise AdminError("Give one of --limit and --remove.")
    request: Json = {"name": name, "request_id": new_request_id()}
    if wish.limit is None:
        answer = client.call("caps", "RemoveCap", request)
    else:
        answer = client.call("caps", "SetCap", {**request, "limit_nusd": _nusd(wish.limit)})
    if wish.as_json:
        print_json(answer)
        return
    used, most = usd(answer["cap"]["used_nusd"]), usd(answer["cap"]["limit_nusd"])
    removed = f"Removed; {used} of {most} were used."
    typer.echo(removed if wish.is_removed else f"{used} of {most} are used.")


def _nusd(text: str) -> int:
    try:
        amount = nusd_from_usd(text)
    except ValueError as error:
        raise AdminError(str(error)) from error
    if amount < 0:
        raise AdminError(f"The limit is {text}; it must not be negative.")
    return amount


def _account_of(client: AdminClient, key_id: str) -> str:
    for key in client.pages("auth", "ListKeys", "keys", limit=_KEYS_MAX):
        if principal(key)["key_id"] == key_id:
            return str(principal(key)["account_id"])
    raise AdminError(f"There is no key {key_id}.")
