"""Which accounts hold episodes singly: each request of an episode has a lease of its own there.

Payment says so with every lease and with a recall. What was said is kept while it is fresh; where
nothing is known, the next lease tells.
"""

from typing import Final

_KEPT_S: Final = 300.0
"""How long it is remembered of an account that nobody asks for."""


class HeldSingly:
    """What payment last said of accounts, by monotonic seconds."""

    def __init__(self) -> None:
        self._since_s: dict[str, float] = {}

    def __contains__(self, account_id: str) -> bool:
        """Return whether the account holds episodes singly."""
        return account_id in self._since_s

    def learn(self, account_id: str, *, is_singly: bool, asked_s: float) -> None:
        """Note an answer; one to a question from before the latest news is old."""
        if is_singly:
            self._since_s[account_id] = max(asked_s, self._since_s.get(account_id, asked_s))
        elif asked_s > self._since_s.get(account_id, asked_s):
            del self._since_s[account_id]

    def tidy(self, now_s: float) -> None:
        """Forget what is no longer fresh."""
        for account_id, since_s in list(self._since_s.items()):
            if now_s - since_s > _KEPT_S:
                del self._since_s[account_id]
