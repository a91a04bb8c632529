"""Cached verdicts of auth: who owns a key, for how long that may be believed, and what ends it.

A verdict is found by the SHA-256 of the whole key. Auth pushes changes; while its heartbeat is
missing verdicts live shorter, and while auth cannot be reached known keys live on for a while.
"""

from collections import OrderedDict
from dataclasses import dataclass

import grpc
from kit.rpc.status import error_from_rpc

from gateway.settings import GatewaySettings
from kit.clock import Clock
from kit.errors import OUTWARD, Reason, TurnpikeError
from kit.secrets import token_digest
from turnpike.auth.v1 import auth_pb2, auth_pb2_grpc
from turnpike.events.v1 import events_pb2
from turnpike.type.v1 import principal_pb2

HEARTBEAT_SUBJECT = "auth.heartbeat.v1"
KEY_CHANGED_SUBJECT = "auth.key_changed.v1"
_HEARTBEATS_MISSED_S = 3.0


@dataclass(slots=True)
class Verdict:
    """A believed principal; times are monotonic seconds."""

    principal: principal_pb2.Principal
    scopes: frozenset[str]
    models: frozenset[str]
    verified_s: float
    expires_unix_ms: int


class Verdicts:
    """The gateway's cache of key verdicts."""

    def __init__(
        self, *, auth: "auth_pb2_grpc.AuthServiceAsyncStub", settings: GatewaySettings, clock: Clock
    ) -> None:
        self._auth = auth
        self._settings = settings
        self._clock = clock
        self._by_key: OrderedDict[bytes, Verdict] = OrderedDict()
        self._heartbeat_s = -_HEARTBEATS_MISSED_S

    def cached(self, key: str) -> Verdict | None:
        """Return a verdict that needs no call, if there is one."""
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
        now_s = self._clock.monotonic_s()
        try:
            answer = await self._auth.VerifyKey(
                auth_pb2.VerifyKeyRequest(key_digest=digest), timeout=self._settings.rpc_timeout_s
            )
        except grpc.RpcError as error:
            return self._without_auth(digest, error_from_rpc(error), now_s)
        verdict = _verdict(answer.principal, now_s)
        self._by_key[digest] = verdict
        self._by_key.move_to_end(digest)
        while len(self._by_key) > self._settings.verdicts_max:
            self._by_key.popitem(last=False)
        return verdict

    def heard_heartbeat(self) -> None:
        """Note that auth's pushes arrive."""
        self._heartbeat_s = self._clock.monotonic_s()

    def forget(self, change: events_pb2.KeyChanged) -> None:
        """Drop every verdict of a key whose rights changed."""
        stale = [
            digest
            for digest, verdict in self._by_key.items()
            if verdict.principal.key_id == change.key_id
        ]
        for digest in stale:
            del self._by_key[digest]

    def _ttl_s(self, now_s: float) -> float:
        is_blind = now_s - self._heartbeat_s > _HEARTBEATS_MISSED_S
        settings = self._settings
        return settings.verdict_ttl_blind_s if is_blind else settings.verdict_ttl_s

    def _check_expiry(self, verdict: Verdict) -> None:
        if verdict.expires_unix_ms and self._clock.unix_ms() >= verdict.expires_unix_ms:
            raise TurnpikeError(Reason.KEY_EXPIRED, "The API key has expired.")

    def _without_auth(self, digest: bytes, error: TurnpikeError, now_s: float) -> Verdict:
        if OUTWARD[error.reason].http_status < 500:
            self._by_key.pop(digest, None)
            raise error
        known = self._by_key.get(digest)
        if known is None or now_s - known.verified_s > self._settings.verdict_grace_s:
            raise TurnpikeError(
                Reason.AUTH_UNAVAILABLE, "The key cannot be checked right now.", retry_after_s="1"
            ) from error
        self._check_expiry(known)
        return known


def _verdict(principal: principal_pb2.Principal, now_s: float) -> Verdict:
    expires_unix_ms = 0
    if principal.HasField("expire_time"):
        expires_unix_ms = principal.expire_time.ToMilliseconds()
    return Verdict(
        principal=principal,
        scopes=frozenset(principal.scopes),
        models=frozenset(principal.models),
        verified_s=now_s,
        expires_unix_ms=expires_unix_ms,
    )
