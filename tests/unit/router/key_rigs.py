"""A ring of accounts' keys over a store in memory."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pydantic import SecretStr

from kit.bus.memory import MemoryBus
from kit.clock import ManualClock
from kit.errors import Reason, TurnpikeError
from kit.sealed import Sealed
from services.router.own_keys import OwnKeyRing
from services.router.own_tries import OwnKeys
from services.router.sealed import SealingRing
from services.router.settings import RouterSettings
from services.router.store import KeptKey, ProviderKeyStore

MASTER = {name: SecretStr(base64.b64encode(name.encode() * 32).decode()) for name in ("m", "n")}


class MemoryKeyStore(ProviderKeyStore):
    """Rows in a dictionary; `on_read` runs between a read's start and its end."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], KeptKey] = {}
        self.read_count = 0
        self.is_away = False
        self.on_read: Callable[[], None] = lambda: None

    async def put(
        self, account_id: str, provider: str, sealed: Sealed, *, hint: str, has_fallback: bool
    ) -> KeptKey:
        kept = KeptKey(account_id, provider, sealed, hint, has_fallback, 1, 1)
        self.rows[account_id, provider] = kept
        return kept

    async def delete(self, account_id: str, provider: str) -> bool:
        return self.rows.pop((account_id, provider), None) is not None

    async def reseal(self, key: KeptKey, sealed: Sealed) -> None:
        self.rows[key.account_id, key.provider] = key._replace(sealed=sealed)

    async def page(
        self, *, after: tuple[str, str] = ("", ""), account_id: str = "", count_max: int
    ) -> Sequence[KeptKey]:
        self.read_count += 1
        if self.is_away:
            raise TurnpikeError(Reason.UNAVAILABLE, "The database is away.")
        found = [
            row
            for place, row in sorted(self.rows.items())
            if place > after and account_id in ("", row.account_id)
        ]
        self.on_read()
        return found[:count_max]


@dataclass
class KeyRig:
    """One store, and rings on it that share a bus."""

    store: MemoryKeyStore = field(default_factory=MemoryKeyStore)
    bus: MemoryBus = field(default_factory=MemoryBus)
    clock: ManualClock = field(default_factory=ManualClock)

    def ring(self, current: str = "m", **settings: object) -> OwnKeyRing:
        """Return one more router's ring."""
        return OwnKeyRing(
            self.store,
            SealingRing(MASTER, current),
            bus=self.bus,
            settings=RouterSettings.model_validate(settings),
            clock=self.clock,
        )

    async def put(
        self, ring: OwnKeyRing, account_id: str, provider: str, secret: str, **options: bool
    ) -> KeptKey:
        """Store a key."""
        return await ring.put(
            account_id, provider, SecretStr(secret), **{"has_fallback": False, **options}
        )


def shown(keys: OwnKeys | None) -> dict[str, str] | None:
    """Return secrets by provider; None where nothing is known."""
    if keys is None:
        return None
    return {name: key.secret.get_secret_value() for name, key in keys.items() if key.secret}


async def used(ring: OwnKeyRing, account_id: str) -> dict[str, str] | None:
    """Return the keys that a request of an account would be sent with."""
    known = ring.known(account_id)
    return shown(await ring.read(account_id) if known is None else known)
