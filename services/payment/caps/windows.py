"""What caps bound and for how long their use counts: days and months are UTC's. Pure."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, NamedTuple

DAY_MS: Final = 86_400_000
END_OF_TIME_MS: Final = 253_402_300_800_000
"""Where a window ends that never does: the year 10000."""


class Scope(StrEnum):
    """What a cap bounds; `KEY_EPISODE` is the budget of each episode without a cap of its own."""

    ACCOUNT = "account"
    KEY = "key"
    EPISODE = "episode"
    KEY_EPISODE = "key_episode"


class Window(StrEnum):
    """How long use counts."""

    DAY = "day"
    MONTH = "month"
    TOTAL = "total"


EPISODES: Final = (Scope.EPISODE, Scope.KEY_EPISODE)
"""Scopes that make requests of episodes need a lease each."""


class Span(NamedTuple):
    """From one moment to before another, Unix milliseconds."""

    start_unix_ms: int
    end_unix_ms: int


class Spender(NamedTuple):
    """Who a lease is for; `episode_id` is empty unless it is for one episode alone."""

    account_id: str
    key_id: str
    episode_id: str = ""


class CapName(NamedTuple):
    """Which cap; `subject` is a key or an episode, and empty for the account."""

    account_id: str
    scope: Scope
    subject: str
    window: Window

    def __str__(self) -> str:
        """Return the name as a finding shows it."""
        return ":".join(part for part in self if part)


class CapState(NamedTuple):
    """A cap, what is used of it, nano-USD, and the window that counts."""

    name: CapName
    limit_nusd: int
    used_nusd: int
    span: Span

    @property
    def left_nusd(self) -> int:
        """What may still be used; a limit that was lowered leaves nothing, not less."""
        return max(0, self.limit_nusd - self.used_nusd)

    @property
    def source(self) -> str:
        """Which limit it is, in a word: account_day, key_month, episode."""
        scope, window = self.name.scope, self.name.window
        return str(Scope.EPISODE) if scope in EPISODES else f"{scope}_{window}"


def span_of(window: Window, unix_ms: int) -> Span:
    """Return the window that a moment lies in."""
    if window is Window.TOTAL:
        return Span(0, END_OF_TIME_MS)
    day = unix_ms - unix_ms % DAY_MS
    if window is Window.DAY:
        return Span(day, day + DAY_MS)
    moment = datetime.fromtimestamp(day // 1000, UTC).replace(day=1)
    after = moment.replace(year=moment.year + moment.month // 12, month=moment.month % 12 + 1)
    return Span(_unix_ms(moment), _unix_ms(after))


def spans_around(window: Window, unix_ms: int) -> list[Span]:
    """Return the window of a moment with those before and after it, in order.

    Two clocks that differ a little are in one of them.
    """
    if window is Window.TOTAL:
        return [span_of(window, unix_ms)]
    now = span_of(window, unix_ms)
    before = span_of(window, max(0, now.start_unix_ms - 1))
    return sorted({before, now, span_of(window, now.end_unix_ms)})


def _unix_ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000
