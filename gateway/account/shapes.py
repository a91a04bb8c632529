"""How an account's figures look outside; pure.

Amounts come twice: as decimal USD strings and as integers of nano-USD.
"""

from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from kit.money import format_usd
from turnpike.metering.v1 import metering_pb2
from turnpike.payment.v1 import caps_pb2, payment_pb2

Json = dict[str, object]
_SCOPES: Final = {
    caps_pb2.CapName.SCOPE_ACCOUNT: "account",
    caps_pb2.CapName.SCOPE_KEY: "key",
    caps_pb2.CapName.SCOPE_EPISODE: "episode",
    caps_pb2.CapName.SCOPE_KEY_EPISODE: "key_episode",
}
_WINDOWS: Final = {
    caps_pb2.CapName.WINDOW_DAY: "day",
    caps_pb2.CapName.WINDOW_MONTH: "month",
    caps_pb2.CapName.WINDOW_TOTAL: "total",
}


def balance_object(
    balance: payment_pb2.Balance, caps: list[caps_pb2.Cap], *, has_more_caps: bool
) -> Json:
    """Return the account's balance and its caps."""
    return {
        "object": "balance",
        "account_id": balance.account_id,
        **_money("available", balance.available_nusd),
        **_money("held", balance.held_nusd),
        **_money("debt", balance.debt_nusd),
        **_money("charged", balance.charged_nusd),
        "caps": [_cap(cap) for cap in caps],
        "has_more_caps": has_more_caps,
    }


def episode_object(episode_id: str, episode: caps_pb2.GetEpisodeResponse) -> Json:
    """Return an episode's budget, None without one, and what became of it."""
    spent, held = episode.spent_nusd, episode.held_nusd
    left = max(0, episode.limit_nusd - spent - held)
    return {
        "id": episode_id,
        "object": "episode",
        **_money("budget", episode.limit_nusd if episode.is_capped else None),
        **_money("spent", spent),
        **_money("held", held),
        **_money("left", left if episode.is_capped else None),
    }


def usage_object(record: metering_pb2.UsageRecord) -> Json:
    """Return what one request used and cost; `refund` is part of `charge`."""
    usage = record.usage
    shown: Json = {
        "request_id": record.request_id,
        "object": "usage",
        "model": record.model_id,
        "key_id": record.key_id,
        "episode_id": record.episode_id or None,
        "outcome": record.outcome,
        "finish_reason": record.finish_reason or None,
        "start_time": time_text(record.start_time),
        "duration_ms": record.duration_ms,
        "ttft_ms": record.ttft_ms,
        "is_streaming": record.is_streaming,
        "prompt_tokens": usage.prompt_token_count,
        "completion_tokens": usage.completion_token_count,
        "cached_prompt_tokens": usage.cached_prompt_token_count,
        "reasoning_tokens": usage.reasoning_token_count,
        **_money("charge", record.charge_nusd),
        **_money("refund", record.refund_nusd),
    }
    if record.unit:
        shown |= {"unit": record.unit, "unit_count": usage.unit_count}
    return shown


def sum_object(group: Json, figures: tuple[int, int, int, int]) -> Json:
    """Return what a group used in all: requests, prompt and completion tokens, nano-USD."""
    requests, prompt, completion, charge_nusd = figures
    return {
        "object": "usage.sum",
        **group,
        "request_count": requests,
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        **_money("charge", charge_nusd),
    }


def time_text(moment: Timestamp) -> str:
    """Return a moment as RFC 3339 in UTC."""
    return moment.ToJsonString()


def _cap(cap: caps_pb2.Cap) -> Json:
    name = cap.name
    shown: Json = {
        "scope": _SCOPES[name.scope],
        "subject": name.subject or None,
        "window": _WINDOWS[name.window],
        **_money("limit", cap.limit_nusd),
    }
    if name.scope != caps_pb2.CapName.SCOPE_KEY_EPISODE:
        shown |= _money("used", cap.used_nusd)
        shown |= _money("left", max(0, cap.limit_nusd - cap.used_nusd))
    shown["reset_time"] = time_text(cap.reset_time) if cap.HasField("reset_time") else None
    return shown


def _money(name: str, amount_nusd: int | None) -> Json:
    text = None if amount_nusd is None else format_usd(amount_nusd)
    return {f"{name}_usd": text, f"{name}_nusd": amount_nusd}
