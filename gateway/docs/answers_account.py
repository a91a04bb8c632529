"""Answers about a caller's own account, as msgspec structs for the description of the API; pure."""

from typing import Literal

import msgspec


class SpendCap(msgspec.Struct, omit_defaults=True):
    """A cap; one of scope `key_episode` is the budget of each episode and counts nothing itself."""

    scope: Literal["account", "key", "key_episode"]
    subject: str | None
    window: Literal["day", "month", "total"]
    limit_usd: str
    limit_nusd: int
    reset_time: str | None
    used_usd: str = ""
    used_nusd: int = 0
    left_usd: str = ""
    left_nusd: int = 0


class AccountBalance(msgspec.Struct):
    """What the account has, holds, owes and was charged, USD and nano-USD."""

    object: Literal["balance"]
    account_id: str
    available_usd: str
    available_nusd: int
    held_usd: str
    held_nusd: int
    debt_usd: str
    debt_nusd: int
    charged_usd: str
    charged_nusd: int
    caps: list[SpendCap]
    has_more_caps: bool


class EpisodeState(msgspec.Struct):
    """What an episode may spend, and has spent; null without a budget."""

    id: str
    object: Literal["episode"]
    budget_usd: str | None
    budget_nusd: int | None
    spent_usd: str
    spent_nusd: int
    held_usd: str
    held_nusd: int
    left_usd: str | None
    left_nusd: int | None


class UsageEntry(msgspec.Struct, omit_defaults=True):
    """One request, or with `group_by` one sum of several."""

    object: Literal["usage", "usage.sum"]
    prompt_tokens: int
    completion_tokens: int
    charge_usd: str
    charge_nusd: int
    request_id: str = ""
    model: str = ""
    key_id: str = ""
    day: str = ""
    request_count: int = 0
    episode_id: str | None = None
    outcome: str = ""
    finish_reason: str | None = None
    start_time: str = ""
    duration_ms: int = 0
    ttft_ms: int = 0
    is_streaming: bool = False
    cached_prompt_tokens: int = 0
    reasoning_tokens: int = 0
    refund_usd: str = ""
    refund_nusd: int = 0
    unit: str = ""
    unit_count: int = 0


class UsageList(msgspec.Struct, omit_defaults=True):
    """A page of requests, newest first, or all sums."""

    object: Literal["list"]
    data: list[UsageEntry]
    has_more: bool = False
    next_page: str | None = None
