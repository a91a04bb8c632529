"""Rate limits: fixed one-minute windows, and the shares of them that holders get.

Pure. A window counts what was granted, not what was used: a holder draws from its grant without
asking, and what it has not drawn when the minute ends is gone. A holder that asks for requests has
used up its requests, one that asks for tokens its tokens; a kind that is not asked for is not
granted. The sum of all grants of a minute never exceeds the limit.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

WINDOW_MS: Final = 60_000
LEASES_PER_REPLICA: Final = 8


@dataclass(frozen=True, slots=True)
class Limits:
    """Requests and tokens in one minute, and requests at once; 0 means no limit."""

    requests: int
    tokens: int
    concurrent_requests: int = 0

    @property
    def has_no_window(self) -> bool:
        """Whether nothing is counted by the minute."""
        return self.requests == 0 and self.tokens == 0


@dataclass(frozen=True, slots=True)
class Ask:
    """What a holder needs at once."""

    requests: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Window:
    """What was granted in one minute; `minute` counts minutes since the Unix epoch."""

    minute: int
    requests: int = 0
    tokens: int = 0

    def left_ms(self, now_unix_ms: int) -> int:
        """Return the milliseconds until this window ends, at most one window's length."""
        return max(0, min(WINDOW_MS, (self.minute + 1) * WINDOW_MS - now_unix_ms))


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer to an `Ask`.

    A kind without a limit grants what was asked for and has 0 remaining. `is_token_limited` says
    that the requests would have fitted and the tokens did not.
    """

    is_granted: bool
    requests: int
    tokens: int
    remaining_requests: int
    remaining_tokens: int
    is_token_limited: bool = False


def window_at(known: Window | None, now_unix_ms: int) -> Window:
    """Return the window to count in: the known one while its minute lasts, else an empty one.

    A known window one minute ahead belongs to an owner whose clock runs ahead, and counts. One
    further ahead was written under a clock that has since been set back, and does not.
    """
    minute = now_unix_ms // WINDOW_MS
    if known is not None and known.minute in {minute, minute + 1}:
        return known
    return Window(minute)


def grant(window: Window, limits: Limits, ask: Ask, *, replicas: int) -> tuple[Grant, Window]:
    """Answer an ask out of a window; return the answer and the window after it.

    A grant is a share of what remains, so that `replicas` holders with a few workers each get
    something, but at least what was asked for. When either kind does not fit, nothing is granted.
    """
    free_requests = max(0, limits.requests - window.requests)
    free_tokens = max(0, limits.tokens - window.tokens)
    requests_fit = limits.requests == 0 or ask.requests <= free_requests
    tokens_fit = limits.tokens == 0 or ask.tokens <= free_tokens
    if not (requests_fit and tokens_fit):
        refusal = Grant(
            is_granted=False,
            requests=0,
            tokens=0,
            remaining_requests=free_requests,
            remaining_tokens=free_tokens,
            is_token_limited=requests_fit,
        )
        return refusal, window
    requests = _share(ask.requests, limits.requests, free_requests, replicas)
    tokens = _share(ask.tokens, limits.tokens, free_tokens, replicas)
    after = Window(
        window.minute,
        window.requests + (requests if limits.requests else 0),
        window.tokens + (tokens if limits.tokens else 0),
    )
    granted = Grant(
        is_granted=True,
        requests=requests,
        tokens=tokens,
        remaining_requests=max(0, limits.requests - after.requests),
        remaining_tokens=max(0, limits.tokens - after.tokens),
    )
    return granted, after


def _share(needed: int, limit: int, free: int, replicas: int) -> int:
    if limit == 0 or needed == 0:
        return needed
    return share_of(free, needed=needed, replicas=replicas)


def share_of(free: int, *, needed: int, replicas: int) -> int:
    """Return one holder's share of what is free: some for each replica, at least what it needs."""
    return max(needed, free // (LEASES_PER_REPLICA * replicas))


class Windows:
    """The newest windows this process has seen, by key; what it holds is a lower bound.

    Another owner may have granted more, never less, so a refusal by this memory is always right
    and a grant is not: that one is decided where the grants are kept.
    """

    def __init__(self, *, keys_max: int) -> None:
        self._keys_max = keys_max
        self._windows: OrderedDict[str, Window] = OrderedDict()

    def __len__(self) -> int:
        return len(self._windows)

    def at(self, key_id: str, now_unix_ms: int) -> Window:
        """Return the key's window of this minute, empty when nothing is known of it."""
        return window_at(self._windows.get(key_id), now_unix_ms)

    def remember(self, key_id: str, window: Window) -> None:
        """Keep what was granted; the key that was granted longest ago goes when there is no room.

        Answers may arrive in another order than they were given: less never replaces more.
        """
        known = self._windows.get(key_id)
        if known is not None and known.minute == window.minute:
            window = Window(
                window.minute,
                max(known.requests, window.requests),
                max(known.tokens, window.tokens),
            )
        self._windows[key_id] = window
        self._windows.move_to_end(key_id)
        if len(self._windows) > self._keys_max:
            self._windows.popitem(last=False)
