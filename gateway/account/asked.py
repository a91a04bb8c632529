"""What callers ask about their account, read and checked; pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Final, NamedTuple

import msgspec
from google.protobuf.timestamp_pb2 import Timestamp
from msgspec import Meta

from gateway.openai.bodies import parse_json
from gateway.openai.routing import EPISODE_AHEAD_MS_MAX
from kit.errors import Reason, TurnpikeError
from kit.ids import uuid7_unix_ms
from kit.money import nusd_from_usd

BUDGET_NUSD_MAX: Final = 1_000_000_000_000_000
GROUPS: Final = ("day", "model", "key")
_PAGE_DEFAULT: Final = 100
_PAGE_MAX: Final = 1_000
_TEXT_MAX: Final = 200
_FILTERS: Final = ("start_time", "end_time", "model", "key_id", "episode_id")
_NAMES: Final = frozenset((*_FILTERS, "group_by", "limit", "page"))
_TIME_MAX: Final = 40


class EpisodeBudget(msgspec.Struct, forbid_unknown_fields=True):
    """`PUT /v1/episodes/{id}`: one of the two, in USD or in nano-USD."""

    budget_usd: Annotated[str, Meta(max_length=32)] | None = None
    budget_nusd: Annotated[int, Meta(ge=0, le=BUDGET_NUSD_MAX)] | None = None


class UsageQuery(NamedTuple):
    """`GET /v1/usage`; empty texts and None do not filter. `groups` is empty for single records."""

    groups: tuple[str, ...]
    model_id: str
    key_id: str
    episode_id: str
    start_time: Timestamp | None
    end_time: Timestamp | None
    page_size: int
    page_token: str


_decode_budget: Final = msgspec.json.Decoder(EpisodeBudget).decode


def budget_nusd(body: bytes) -> int:
    """Return the budget that a body sets, nano-USD.

    Raises:
        TurnpikeError: INVALID_JSON, INVALID_VALUE, MISSING_FIELD or UNSUPPORTED_PARAMETER.
    """
    asked = parse_json(body, _decode_budget)
    if (asked.budget_usd is None) == (asked.budget_nusd is None):
        raise TurnpikeError(
            Reason.MISSING_FIELD,
            "Send one of budget_usd, such as 0.50, and budget_nusd.",
            param="budget_usd",
        )
    if asked.budget_nusd is not None:
        return asked.budget_nusd
    try:
        amount = nusd_from_usd(str(asked.budget_usd))
    except ValueError as error:
        raise _wrong("budget_usd", "must be a number of USD with at most 9 decimals") from error
    if not 0 <= amount <= BUDGET_NUSD_MAX:
        raise _wrong("budget_usd", f"must be from 0 to {BUDGET_NUSD_MAX // 10**9}")
    return amount


def episode_id(text: str, *, now_unix_ms: int) -> str:
    """Return the episode that a path names, in lower case.

    Raises:
        TurnpikeError: INVALID_VALUE, it is no UUIDv7 of the past.
    """
    name = text.lower()
    made_unix_ms = uuid7_unix_ms(name)
    if made_unix_ms is None:
        raise _wrong("episode_id", "must be a UUID of version 7")
    if made_unix_ms > now_unix_ms + EPISODE_AHEAD_MS_MAX:
        raise _wrong("episode_id", "lies in the future")
    return name


def usage_query(sent: Mapping[str, str]) -> UsageQuery:
    """Return what is asked about usage.

    Raises:
        TurnpikeError: INVALID_VALUE or UNSUPPORTED_PARAMETER, naming the parameter.
    """
    for name in sent:
        if name not in _NAMES:
            raise TurnpikeError(
                Reason.UNSUPPORTED_PARAMETER,
                f"{name[:_TEXT_MAX]} is not supported.",
                param=name[:_TEXT_MAX],
            )
    groups = _groups(sent.get("group_by", ""))
    if groups and ("page" in sent or "limit" in sent or "episode_id" in sent):
        raise _wrong("group_by", "does not go together with page, limit and episode_id")
    return UsageQuery(
        groups=groups,
        model_id=_text(sent, "model"),
        key_id=_text(sent, "key_id"),
        episode_id=_text(sent, "episode_id").lower(),
        start_time=_moment(sent, "start_time"),
        end_time=_moment(sent, "end_time"),
        page_size=_size(sent.get("limit")),
        page_token=sent.get("page", ""),
    )


def _groups(text: str) -> tuple[str, ...]:
    chosen = tuple(part.strip() for part in text.split(",")) if text else ()
    if len(set(chosen)) != len(chosen) or not set(chosen) <= set(GROUPS):
        raise _wrong("group_by", f"may name each of {', '.join(GROUPS)} once, parted by commas")
    return chosen


def _text(sent: Mapping[str, str], name: str) -> str:
    value = sent.get(name, "")
    if len(value) > _TEXT_MAX or not value.isprintable():
        raise _wrong(name, f"must be printable and at most {_TEXT_MAX} characters long")
    return value


def _size(text: str | None) -> int:
    if text is None:
        return _PAGE_DEFAULT
    if not (text.isascii() and text.isdecimal() and len(text) < 6):
        raise _wrong("limit", f"must be a whole number from 1 to {_PAGE_MAX}")
    size = int(text)
    if not 1 <= size <= _PAGE_MAX:
        raise _wrong("limit", f"is {size}; 1 to {_PAGE_MAX} is allowed")
    return size


def _moment(sent: Mapping[str, str], name: str) -> Timestamp | None:
    """Return a moment; a date is the start of its day, and what names no zone is UTC."""
    text = sent.get(name)
    if text is None:
        return None
    # A plus sign of a zone is a space in a query that nobody escaped.
    text = text.replace(" ", "+") if "T" in text else text
    try:
        found = datetime.fromisoformat(text[:_TIME_MAX])
        found = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
        unix_us = round(found.timestamp() * 1_000_000)
    except (ValueError, OverflowError) as error:
        raise _wrong(name, "must be a time such as 2026-11-21T10:00:00Z or a date") from error
    if unix_us < 0:
        raise _wrong(name, "must not lie before 1970")
    return Timestamp(seconds=unix_us // 1_000_000, nanos=unix_us % 1_000_000 * 1_000)


def _wrong(name: str, what: str) -> TurnpikeError:
    return TurnpikeError(Reason.INVALID_VALUE, f"{name} {what}.", param=name)
