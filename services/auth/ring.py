"""The life of keys: made, rotated, revoked; every change is told on the bus once it is kept."""

import structlog

from kit.bus.port import Bus
from services.auth.keys import Issuer, Key, KeySpec
from services.auth.store import AuthStore
from services.auth.subjects import KEY_CHANGED
from services.auth.verdicts import Verdicts
from turnpike.events.v1 import events_pb2

_log = structlog.get_logger("auth.ring")


class KeyRing:
    """Changes keys. Listeners drop what they know by key id; a lost message costs their TTL."""

    def __init__(self, store: AuthStore, *, issuer: Issuer, verdicts: Verdicts, bus: Bus) -> None:
        self._store = store
        self._issuer = issuer
        self._verdicts = verdicts
        self._bus = bus

    async def create(self, spec: KeySpec, *, request_id: str | None) -> tuple[Key, str]:
        """Create a key and return it with its secret.

        Raises:
            TurnpikeError: NOT_FOUND for the account; ALREADY_EXISTS when `request_id` was used.
        """
        issued = self._issuer.issue()
        key = await self._store.create_key(
            spec, secret_hash=issued.secret_hash, hint=issued.hint, request_id=request_id
        )
        _log.info("key_created", key_id=key.key_id, account_id=spec.account_id)
        return key, issued.secret

    async def rotate(self, key_id: str, *, overlap_ms: int) -> tuple[Key, str]:
        """Give a key another secret and return both; the one before lives on for the overlap.

        Raises:
            TurnpikeError: NOT_FOUND; UNPROCESSABLE when the key is revoked or expired.
        """
        issued = self._issuer.issue()
        key = await self._store.rotate_key(
            key_id, secret_hash=issued.secret_hash, hint=issued.hint, overlap_ms=overlap_ms
        )
        await self._tell(key)
        _log.info("key_rotated", key_id=key_id, overlap_ms=overlap_ms)
        return key, issued.secret

    async def revoke(self, key_id: str) -> Key:
        """Revoke a key; a repeat tells the bus again.

        Raises:
            TurnpikeError: NOT_FOUND.
        """
        key = await self._store.revoke_key(key_id)
        await self._tell(key)
        _log.info("key_revoked", key_id=key_id)
        return key

    async def _tell(self, key: Key) -> None:
        self._verdicts.learn(key)
        changed = events_pb2.KeyChanged(key_id=key.key_id, is_revoked=key.is_revoked)
        await self._bus.publish(KEY_CHANGED, changed.SerializeToString())
