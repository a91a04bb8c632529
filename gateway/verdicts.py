"""Cached verdicts of auth: who owns a key, for how long that may be believed, and what ends it.

A verdict is found by the SHA-256 of the whole key. Auth pushes changes; while its heartbeat is
missing verdicts live shorter, and while auth cannot be reached known keys live on for a while.
"""

from dataclasses import dataclass, field

import grpc

from gateway.principal import Principal
from gateway.settings import GatewaySettings
from kit.clock import Clock
from kit.errors import OUTWARD, Reason, TurnpikeError
from kit.rpc.status import error_from_rpc
from kit.secrets import token_digest
from turnpike.auth.v1 import auth_pb2, auth_pb2_grpc
from turnpike.events.v1 import events_pb2
from turnpike.type.v1 import principal_pb2

HEARTBEAT_SUBJECT = "auth.heartbeat.v1"
KEY_CHANGED_SUBJECT = "auth.key_changed.v1"
_HEARTBEATS_MISSED_S = 3.0
_AWAY_REST_S = 1.0
_NEVER_S = float("-inf")


@dataclass(slots=True)
class Verdict:
    """A believed principal; times are monotonic seconds."""

    principal: Principal
    scopes: frozenset[str]
    models: frozenset[str]
    verified_s: float
    expires_unix_ms: int


@dataclass(slots=True, eq=False)
class _Question:
    """A question to auth on its way, and the keys that changed since it was asked."""

    changed: set[str] = field(default_factory=set)


class Verdicts:
    """The gateway's cache of key verdicts."""

    def __init__(
        self, *, auth: "auth_pb2_grpc.AuthServiceAsyncStub", settings: GatewaySettings, clock: Clock
    ) -> None:
        self._auth = auth
        self._settings = settings
        self._clock = clock
        self._by_key: dict[bytes, Verdict] = {}
        self._digests: dict[str, set[bytes]] = {}
        self._asking: set[_Question] = set()
        self._heartbeat_s = _NEVER_S
        self._away_until_s = _NEVER_S

    def cached(self, key: str) -> Verdict | None:
        """Return a verdict that needs no call, if there is one.

        Raises:
            TurnpikeError: `KEY_EXPIRED`.
        """
        verdict = self._by_key.get(token_digest(key))
        if verdict is None:
            return None
        now_s = self._clock.monotonic_s()
        if now_s - verdict.verified_s >= self._ttl_s(now_s):
            return None
        self._check_expiry(verdict)
        return verdict

    async def verify(self, key: str) -> Verdict:
        """Ask auth, and remember.

        Raises:
            TurnpikeError: Auth's refusal, or `AUTH_UNAVAILABLE` when it cannot be asked and the key
                is not known well enough.
        """
        digest = token_digest(key)
        if self._clock.monotonic_s() < self._away_until_s and digest in self._by_key:
            return self._without_auth(digest)
        question = _Question()
        self._asking.add(question)
        try:
            return await self._ask(digest, question)
        except grpc.RpcError as rpc_error:
            error = error_from_rpc(rpc_error)
            if OUTWARD[error.reason].http_status < 500:
                self._drop(digest)
                raise error from rpc_error
            # Known keys need not wait for auth to fail again and again.
            self._away_until_s = self._clock.monotonic_s() + _AWAY_REST_S
            return self._without_auth(digest)
        finally:
            self._asking.discard(question)

    def heard_heartbeat(self) -> None:
        """Note that auth's pushes arrive."""
        self._heartbeat_s = self._clock.monotonic_s()

    def forget(self, change: events_pb2.KeyChanged) -> None:
        """Drop every verdict of a key whose rights changed."""
        for question in self._asking:
            question.changed.add(change.key_id)
        for digest in list(self._digests.get(change.key_id, ())):
            self._drop(digest)

    async def _ask(self, digest: bytes, question: _Question) -> Verdict:
        request = auth_pb2.VerifyKeyRequest(key_digest=digest)
        while True:
            now_s = self._clock.monotonic_s()
            answer = await self._auth.VerifyKey(request, timeout=self._settings.rpc_timeout_s)
            # A change that was pushed while auth answered may be newer than the answer.
            if answer.principal.key_id not in question.changed:
                return self._remember(digest, _verdict(answer.principal, now_s))
            question.changed.clear()

    def _remember(self, digest: bytes, verdict: Verdict) -> Verdict:
        self._drop(digest)
        self._by_key[digest] = verdict
        self._digests.setdefault(verdict.principal.key_id, set()).add(digest)
        while len(self._by_key) > self._settings.verdicts_max:
            self._drop(next(iter(self._by_key)))
        return verdict

    def _drop(self, digest: bytes) -> None:
        verdict = self._by_key.pop(digest, None)
        if verdict is None:
            return
        key_id = verdict.principal.key_id
        self._digests[key_id].discard(digest)
        if not self._digests[key_id]:
            del self._digests[key_id]

    def _ttl_s(self, now_s: float) -> float:
        is_blind = now_s - self._heartbeat_s > _HEARTBEATS_MISSED_S
        settings = self._settings
        return settings.verdict_ttl_blind_s if is_blind else settings.verdict_ttl_s

    def _check_expiry(self, verdict: Verdict) -> None:
        if verdict.expires_unix_ms and self._clock.unix_ms() >= verdict.expires_unix_ms:
            raise TurnpikeError(Reason.KEY_EXPIRED, "The API key has expired.")

    def _without_auth(self, digest: bytes) -> Verdict:
        known = self._by_key.get(digest)
        now_s = self._clock.monotonic_s()
        if known is None or now_s - known.verified_s > self._settings.verdict_grace_s:
            raise TurnpikeError(
                Reason.AUTH_UNAVAILABLE, "The key cannot be checked right now.", retry_after_s="1"
            )
        self._check_expiry(known)
        return known


def _verdict(principal: principal_pb2.Principal, now_s: float) -> Verdict:
    expires_unix_ms = 0
    if principal.HasField("expire_time"):
        expires_unix_ms = principal.expire_time.ToMilliseconds()
    return Verdict(
        principal=Principal.of(principal),
        scopes=frozenset(principal.scopes),
        models=frozenset(principal.models),
        verified_s=now_s,
        expires_unix_ms=expires_unix_ms,
    )
