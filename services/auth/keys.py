"""Keys: what one may do, when it ends, and what is kept of its secret.

Pure. A key is a right with a name; a secret is one of the texts that prove it. A key has one
secret, or two while a rotation overlaps. Of a secret only an HMAC is kept.
"""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from kit.errors import Reason, TurnpikeError
from kit.secrets import RANDOM_BYTES, mint_token, token_digest
from services.auth.accounts import NO_DEFAULTS, RoutingDefaults
from services.auth.limits import Limits

SCOPES: Final = ("chat", "models", "usage", "admin", "chat_template", "billing")
SCOPES_BY_DEFAULT: Final = ("chat", "models", "usage")
DIALECTS: Final = ("openai", "vram", "infer", "bud", "runinfra")
MODELS_MAX: Final = 256
MODEL_CHARS_MAX: Final = 200
LIMIT_MAX: Final = 10**12
DIGEST_BYTES: Final = 32
_HINT_HEAD: Final = 8
_HINT_TAIL: Final = 4


@dataclass(frozen=True, slots=True)
class KeySpec:
    """What a key may do.

    Limits of its own override its tier's: None means the tier's, 0 none. `is_strict` refuses
    request fields that Turnpike does not know. `routing_strategy` and `is_external_allowed` are for
    requests that do not say; empty and None mean the account's.
    """

    account_id: str
    name: str
    scopes: tuple[str, ...]
    models: tuple[str, ...]
    tier: str
    dialect: str
    expire_unix_ms: int | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrent_requests: int | None = None
    is_strict: bool = False
    routing_strategy: str = ""
    is_external_allowed: bool | None = None

    def limits(self, tier: Limits) -> Limits:
        """Return the limits in force, given those of the tier."""
        return Limits(
            requests=_own_or(tier.requests, self.requests_per_minute),
            tokens=_own_or(tier.tokens, self.tokens_per_minute),
            concurrent_requests=_own_or(tier.concurrent_requests, self.concurrent_requests),
        )


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret.

    `hint` shows the ends of the newest one, `defaults` are its account's.
    """

    key_id: str
    spec: KeySpec
    hint: str
    create_unix_ms: int
    revoke_unix_ms: int | None = None
    defaults: RoutingDefaults = NO_DEFAULTS

    @property
    def routing(self) -> RoutingDefaults:
        """What holds for requests that do not say: the key's own, else its account's."""
        spec, account = self.spec, self.defaults
        is_allowed = spec.is_external_allowed
        return RoutingDefaults(
            spec.routing_strategy or account.strategy,
            account.is_external_allowed if is_allowed is None else is_allowed,
        )

    @property
    def is_revoked(self) -> bool:
        """Whether it is refused for ever."""
        return self.revoke_unix_ms is not None


@dataclass(frozen=True, slots=True)
class KeptSecret:
    """What is kept of a secret; `generation` counts from 1 within its key."""

    secret_hash: bytes
    generation: int
    expire_unix_ms: int | None = None

    def is_live(self, now_unix_ms: int) -> bool:
        """Whether its own time has not run out."""
        return self.expire_unix_ms is None or now_unix_ms < self.expire_unix_ms


@dataclass(frozen=True, slots=True)
class Issued:
    """A new secret, what is kept of it, and its ends for display."""

    secret: str = field(repr=False)
    secret_hash: bytes
    hint: str


class Issuer:
    """Makes secrets; `random_bytes` returns as many bytes as it is asked for."""

    def __init__(self, *, prefix: str, pepper: bytes, random_bytes: Callable[[int], bytes]) -> None:
        self._prefix = prefix
        self._pepper = pepper
        self._random_bytes = random_bytes

    def issue(self) -> Issued:
        """Return a secret that nobody else has."""
        secret = mint_token(self._prefix, self._random_bytes(RANDOM_BYTES))
        return Issued(secret, stored_hash(self._pepper, token_digest(secret)), hint(secret))


def _own_or(tier: int, own: int | None) -> int:
    return tier if own is None else own


def stored_hash(pepper: bytes, digest: bytes) -> bytes:
    """Return what is kept of a secret: HMAC-SHA-256 of its SHA-256 digest, 32 bytes."""
    return hmac.new(pepper, digest, hashlib.sha256).digest()


def hint(secret: str) -> str:
    """Return the first 8 and last 4 characters, for people to tell keys apart."""
    return f"{secret[:_HINT_HEAD]}...{secret[-_HINT_TAIL:]}"


def check_usable(key: Key, now_unix_ms: int) -> None:
    """Let a key pass that is in force.

    Raises:
        TurnpikeError: KEY_REVOKED or KEY_EXPIRED.
    """
    if key.is_revoked:
        raise TurnpikeError(Reason.KEY_REVOKED, "This API key was revoked.")
    expire_unix_ms = key.spec.expire_unix_ms
    if expire_unix_ms is not None and now_unix_ms >= expire_unix_ms:
        raise TurnpikeError(Reason.KEY_EXPIRED, "This API key has expired.")


def check_rotatable(key: Key, now_unix_ms: int) -> None:
    """Let a key pass that can still get a new secret.

    Raises:
        TurnpikeError: UNPROCESSABLE; its caller is an administrator, not the key's holder.
    """
    try:
        check_usable(key, now_unix_ms)
    except TurnpikeError as refusal:
        message = "A revoked or expired key gets no new secret; create another key."
        raise TurnpikeError(Reason.UNPROCESSABLE, message, param="key_id") from refusal


def check_secret(key: Key, secret: KeptSecret, now_unix_ms: int) -> int | None:
    """Return when a secret stops working, Unix milliseconds, or None for never.

    Raises:
        TurnpikeError: KEY_REVOKED or KEY_EXPIRED.
    """
    check_usable(key, now_unix_ms)
    if not secret.is_live(now_unix_ms):
        message = "This API key's secret was rotated and its overlap is over."
        raise TurnpikeError(Reason.KEY_EXPIRED, message)
    ends = [end for end in (key.spec.expire_unix_ms, secret.expire_unix_ms) if end is not None]
    return min(ends, default=None)


def retire(secrets: Sequence[KeptSecret], now_unix_ms: int, overlap_ms: int) -> list[KeptSecret]:
    """Return the secrets whose end moves when a newer one comes, with that end.

    The newest goes on for the overlap, never longer than it would have; older ones end at once,
    so that at most two live.
    """
    live = sorted((s for s in secrets if s.is_live(now_unix_ms)), key=lambda s: -s.generation)
    retired = []
    for position, secret in enumerate(live):
        end = now_unix_ms + (overlap_ms if position == 0 else 0)
        if secret.expire_unix_ms is not None:
            end = min(end, secret.expire_unix_ms)
        retired.append(KeptSecret(secret.secret_hash, secret.generation, end))
    return retired


def check_scopes(scopes: Sequence[str]) -> tuple[str, ...]:
    """Return scopes in their usual order, without repeats; none given means the usual ones.

    Raises:
        TurnpikeError: INVALID_VALUE with `param=scopes`.
    """
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown:
        message = f"scopes holds an unknown scope; known are {', '.join(SCOPES)}."
        raise TurnpikeError(Reason.INVALID_VALUE, message, param="scopes")
    return tuple(scope for scope in SCOPES if scope in scopes) or SCOPES_BY_DEFAULT


def check_models(models: Sequence[str]) -> tuple[str, ...]:
    """Return model ids without repeats, in the order given.

    Raises:
        TurnpikeError: INVALID_VALUE with `param=models`.
    """
    kept = tuple(dict.fromkeys(models))
    if len(kept) > MODELS_MAX:
        message = f"models has {len(kept)} entries; at most {MODELS_MAX} are allowed."
        raise TurnpikeError(Reason.INVALID_VALUE, message, param="models")
    if any(not m or len(m) > MODEL_CHARS_MAX or not m.isprintable() or " " in m for m in kept):
        message = f"models holds an id that is not 1 to {MODEL_CHARS_MAX} printable characters."
        raise TurnpikeError(Reason.INVALID_VALUE, message, param="models")
    return kept


def check_dialect(dialect: str) -> str:
    """Return a known dialect's name, or the empty one.

    Raises:
        TurnpikeError: INVALID_VALUE with `param=dialect`.
    """
    if dialect and dialect not in DIALECTS:
        message = f"dialect is unknown; known are {', '.join(DIALECTS)}."
        raise TurnpikeError(Reason.INVALID_VALUE, message, param="dialect")
    return dialect


def check_count(count: int, param: str) -> int:
    """Return a limit or an ask that can be counted.

    Raises:
        TurnpikeError: INVALID_VALUE naming `param`.
    """
    if not 0 <= count <= LIMIT_MAX:
        message = f"{param} is {count}; it must be between 0 and {LIMIT_MAX}."
        raise TurnpikeError(Reason.INVALID_VALUE, message, param=param)
    return count
