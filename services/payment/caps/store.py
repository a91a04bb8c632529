"""The caps' store: every statement that sets or shows them, behind methods that say what they mean.

What grants and returns do to caps is in `store_use`, inside their own transactions.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from kit.clock import Clock
from kit.errors import Reason, TurnpikeError
from services.payment.caps import store_limits
from services.payment.caps.store_limits import Episode, Wanted
from services.payment.caps.store_use import holds_episodes_singly
from services.payment.caps.windows import EPISODES, CapName, CapState, Scope, Span, Window
from services.payment.settings import PaymentSettings
from services.payment.store_answers import ask, remember
from services.payment.store_books import Books
from services.payment.store_engine import Transactions


@dataclass(frozen=True, slots=True)
class Wish:
    """A cap as somebody wants it, nano-USD.

    `is_tightening_only` refuses a limit above the one that applies now; for an episode that is its
    key's budget, when it has no cap of its own.
    """

    name: CapName
    limit_nusd: int
    request_id: str
    is_tightening_only: bool = False
    key_id: str = ""


@dataclass(frozen=True, slots=True)
class Changed:
    """A cap as it is, or was before it was removed, and what holders of leases should hear.

    `is_tighter` says that leases were granted that it might not have let through.
    """

    cap: CapState
    is_tighter: bool = False
    holds_episodes_singly: bool = False


class CapStore:
    """The caps of one database; each method is one transaction."""

    def __init__(
        self, transactions: Transactions, settings: PaymentSettings, *, clock: Clock
    ) -> None:
        self._transactions = transactions
        self._count_max = settings.caps.per_account_max
        self._keep_ms = round(settings.answers_keep_s * 1000)
        self._clock = clock

    async def set(self, wish: Wish) -> Changed:
        """Set a cap once per request id.

        Raises:
            TurnpikeError: KEY_SCOPE, it would be looser; UNPROCESSABLE, too many; ALREADY_EXISTS;
                LEDGER_UNAVAILABLE.
        """
        return await self._transactions.write(lambda connection: self._set(connection, wish))

    async def remove(self, name: CapName, *, request_id: str) -> Changed:
        """Remove a cap once per request id.

        Raises:
            TurnpikeError: NOT_FOUND; ALREADY_EXISTS; LEDGER_UNAVAILABLE.
        """
        return await self._transactions.write(
            lambda connection: self._remove(connection, name, request_id)
        )

    async def page(self, wanted: Wanted) -> list[CapState]:
        """Return an account's caps by scope, subject and window."""
        now_ms = self._clock.unix_ms()
        return await self._transactions.read(
            lambda connection: store_limits.page(connection, wanted, now_ms=now_ms)
        )

    async def episode(self, account_id: str, episode_id: str, *, key_id: str) -> Episode:
        """Return what an episode may use and has used."""
        return await self._transactions.read(
            lambda connection: store_limits.episode_of(connection, account_id, episode_id, key_id)
        )

    def _set(self, connection: Connection, wish: Wish) -> Changed:
        Books(connection)
        name, now_ms = wish.name, self._clock.unix_ms()
        asked = ["cap", *name, wish.limit_nusd]
        if (answered := ask(connection, wish.request_id, asked)) is not None:
            return _read(name, answered)
        before = store_limits.limit_of(connection, name)
        if wish.is_tightening_only:
            applying = store_limits.applying_limit(connection, name, wish.key_id)
            if applying is not None and wish.limit_nusd > applying:
                raise store_limits.too_loose(wish.limit_nusd, applying)
        was_singly = holds_episodes_singly(connection, name.account_id)
        store_limits.set_limit(
            connection,
            name,
            wish.limit_nusd,
            now_ms=now_ms,
            kept_since_ms=now_ms - self._keep_ms,
            count_max=self._count_max,
        )
        is_singly = holds_episodes_singly(connection, name.account_id)
        is_lower = before is None or wish.limit_nusd < before
        changed = Changed(
            store_limits.state_of(connection, name, wish.limit_nusd, now_ms=now_ms),
            is_tighter=not was_singly if name.scope in EPISODES else is_lower,
            holds_episodes_singly=is_singly,
        )
        remember(connection, wish.request_id, asked, _written(changed), now_ms=now_ms)
        return changed

    def _remove(self, connection: Connection, name: CapName, request_id: str) -> Changed:
        Books(connection)
        now_ms = self._clock.unix_ms()
        asked = ["uncap", *name]
        if (answered := ask(connection, request_id, asked)) is not None:
            return _read(name, answered)
        limit = store_limits.limit_of(connection, name)
        if limit is None:
            raise TurnpikeError(Reason.NOT_FOUND, "There is no such cap.", param="name")
        changed = Changed(store_limits.state_of(connection, name, limit, now_ms=now_ms))
        store_limits.remove(connection, name)
        remember(connection, request_id, asked, _written(changed), now_ms=now_ms)
        return changed


def _written(changed: Changed) -> dict[str, object]:
    cap = changed.cap
    return {
        "limit_nusd": cap.limit_nusd,
        "used_nusd": cap.used_nusd,
        "span": [*cap.span],
        "is_tighter": changed.is_tighter,
        "holds_episodes_singly": changed.holds_episodes_singly,
    }


def _read(name: CapName, answered: dict[str, Any]) -> Changed:
    cap = CapState(name, answered["limit_nusd"], answered["used_nusd"], Span(*answered["span"]))
    return Changed(cap, answered["is_tighter"], answered["holds_episodes_singly"])


def cap_name(account_id: str, scope: Scope, subject: str, window: Window) -> CapName:
    """Return the name of a cap.

    Raises:
        TurnpikeError: INVALID_VALUE or MISSING_FIELD, the parts do not go together.
    """
    if scope is Scope.ACCOUNT:
        if subject:
            raise _wrong("subject", "must be empty for a cap of the account")
    elif not subject:
        raise TurnpikeError(Reason.MISSING_FIELD, "subject is required.", param="subject")
    if scope in EPISODES and window is not Window.TOTAL:
        raise _wrong("window", "must be the total one for episodes")
    return CapName(account_id, scope, subject, window)


def _wrong(name: str, what: str) -> TurnpikeError:
    return TurnpikeError(Reason.INVALID_VALUE, f"{name} {what}.", param=name)
