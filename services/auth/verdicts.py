"""Who owns a secret, and whether a key may still be used."""

from cachetools import TTLCache

from kit.clock import Clock
from kit.errors import Reason, TurnpikeError
from services.auth.keys import DIGEST_BYTES, Key, check_secret, check_usable, stored_hash
from services.auth.store import AuthStore


class Verdicts:
    """Answers by the store, and for rate leases by a short memory of keys."""

    def __init__(
        self, store: AuthStore, *, pepper: bytes, clock: Clock, cache_s: float, cache_max: int
    ) -> None:
        self._store = store
        self._pepper = pepper
        self._clock = clock
        self._keys: TTLCache[str, Key] = TTLCache(cache_max, cache_s, timer=clock.monotonic_s)

    async def verify(self, digest: bytes) -> tuple[Key, int | None]:
        """Return a secret's key and when the secret stops working, Unix milliseconds.

        Raises:
            TurnpikeError: INVALID_VALUE when this is no SHA-256; INVALID_API_KEY, KEY_REVOKED or
                KEY_EXPIRED.
        """
        if len(digest) != DIGEST_BYTES:
            message = f"key_digest has {len(digest)} bytes; {DIGEST_BYTES} needed."
            raise TurnpikeError(Reason.INVALID_VALUE, message, param="key_digest")
        found = await self._store.find_secret(stored_hash(self._pepper, digest))
        if found is None:
            raise TurnpikeError(Reason.INVALID_API_KEY, "This API key is not known.")
        key, secret = found
        self.learn(key)
        return key, check_secret(key, secret, self._clock.unix_ms())

    async def usable(self, key_id: str) -> Key:
        """Return a key that is in force, as it was at most the memory's time ago.

        Raises:
            TurnpikeError: NOT_FOUND, KEY_REVOKED or KEY_EXPIRED.
        """
        key = await self.find(key_id)
        check_usable(key, self._clock.unix_ms())
        return key

    async def find(self, key_id: str) -> Key:
        """Return a key, in force or not, as it was at most the memory's time ago.

        Raises:
            TurnpikeError: NOT_FOUND.
        """
        key = self._keys.get(key_id)
        if key is None:
            key = await self._store.get_key(key_id)
            self.learn(key)
        return key

    def learn(self, key: Key) -> None:
        """Remember a key as it is now."""
        self._keys[key.key_id] = key
