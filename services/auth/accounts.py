"""Accounts: who owns keys and pays."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from kit.errors import Reason, TurnpikeError

NAME_CHARS_MAX: Final = 120


class RoutingDefaults(NamedTuple):
    """How requests that do not say are routed; empty and None mean the usual."""

    strategy: str = ""
    is_external_allowed: bool | None = None


NO_DEFAULTS: Final = RoutingDefaults()
STRATEGIES: Final = ("cheapest", "fastest", "balanced")


@dataclass(frozen=True, slots=True)
class Account:
    """An account (workspace)."""

    account_id: str
    name: str
    create_unix_ms: int
    defaults: RoutingDefaults = NO_DEFAULTS


def check_name(name: str, *, is_required: bool) -> str:
    """Return a display name as it is kept, without surrounding blanks.

    Raises:
        TurnpikeError: MISSING_FIELD or INVALID_VALUE, with `param=name`.
    """
    kept = name.strip()
    if not kept and is_required:
        raise TurnpikeError(Reason.MISSING_FIELD, "name is missing.", param="name")
    if len(kept) > NAME_CHARS_MAX:
        message = f"name has {len(kept)} characters; at most {NAME_CHARS_MAX} are allowed."
        raise TurnpikeError(Reason.INVALID_VALUE, message, param="name")
    if not kept.isprintable():
        message = "name holds a control character or a line break."
        raise TurnpikeError(Reason.INVALID_VALUE, message, param="name")
    return kept


def check_strategy(strategy: str) -> str:
    """Return a known strategy's name, or the empty one.

    Raises:
        TurnpikeError: INVALID_VALUE with `param=routing_strategy`.
    """
    if strategy and strategy not in STRATEGIES:
        message = f"routing_strategy is unknown; known are {', '.join(STRATEGIES)}."
        raise TurnpikeError(Reason.INVALID_VALUE, message, param="routing_strategy")
    return strategy
