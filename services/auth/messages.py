"""Between the contract's messages and this room's values: checks inward, shapes outward."""

import base64
import uuid
from dataclasses import dataclass
from typing import Final, Literal

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from kit.clock import Clock
from kit.errors import Reason, TurnpikeError
from services.auth.accounts import Account, RoutingDefaults, check_name, check_strategy
from services.auth.keys import (
    Key,
    KeySpec,
    check_count,
    check_dialect,
    check_models,
    check_scopes,
)
from services.auth.limits import Ask
from services.auth.rates import Leased
from services.auth.slots import HolderStep, Slots, SlotsAsk
from services.auth.tiers import Tiers
from turnpike.auth.v1 import auth_pb2 as pb
from turnpike.type.v1 import principal_pb2

PAGE_SIZE_DEFAULT: Final = 100
PAGE_SIZE_MAX: Final = 1000
OVERLAP_MAX_S: Final = 30 * 24 * 3600
_EXPIRE_MAX_S: Final = 253_402_300_799  # the last second of the year 9999
_STEPS: Final = {
    pb.RenewHolderRequest.STEP_BEGIN: HolderStep.BEGIN,
    pb.RenewHolderRequest.STEP_END: HolderStep.END,
}


@dataclass(frozen=True, slots=True)
class Page:
    """Which entries to return: those that follow `after`, at most `size`."""

    after: str
    size: int


def uuid_text(text: str, param: str) -> str:
    """Return a UUID in its usual form.

    Raises:
        TurnpikeError: MISSING_FIELD or INVALID_VALUE naming `param`.
    """
    if not text:
        raise TurnpikeError(Reason.MISSING_FIELD, f"{param} is missing.", param=param)
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        message = f"{param} is not a UUID."
        raise TurnpikeError(Reason.INVALID_VALUE, message, param=param) from error


def request_id_of(text: str) -> str | None:
    """Return an idempotency id, None when there is none.

    Raises:
        TurnpikeError: INVALID_VALUE with `param=request_id`.
    """
    return uuid_text(text, "request_id") if text else None


def page_of(page_size: int, page_token: str) -> Page:
    """Return the page that a list call asks for.

    Raises:
        TurnpikeError: INVALID_VALUE naming the field.
    """
    if not 0 <= page_size <= PAGE_SIZE_MAX:
        message = f"page_size is {page_size}; it must be between 1 and {PAGE_SIZE_MAX}."
        raise TurnpikeError(Reason.INVALID_VALUE, message, param="page_size")
    return Page(_after(page_token), page_size or PAGE_SIZE_DEFAULT)


def page_token_of(last_id: str) -> str:
    """Return the token of the page that follows an id."""
    return base64.urlsafe_b64encode(uuid.UUID(last_id).bytes).decode()


def _after(page_token: str) -> str:
    if not page_token:
        return ""
    try:
        return str(uuid.UUID(bytes=base64.b64decode(page_token, altchars=b"-_", validate=True)))
    except ValueError as error:
        message = "page_token does not come from a page of this list."
        raise TurnpikeError(Reason.INVALID_VALUE, message, param="page_token") from error


def ask_of(request: pb.LeaseRateRequest) -> Ask:
    """Return what a holder needs.

    Raises:
        TurnpikeError: INVALID_VALUE naming the field; MISSING_FIELD when it needs nothing.
    """
    ask = Ask(
        requests=check_count(request.request_count, "request_count"),
        tokens=check_count(request.token_count, "token_count"),
    )
    if ask == Ask(0, 0):
        message = "request_count and token_count are both 0."
        raise TurnpikeError(Reason.MISSING_FIELD, message, param="request_count")
    return ask


def slots_ask_of(request: pb.LeaseSlotsRequest) -> SlotsAsk:
    """Return which slots a holder keeps and needs.

    Raises:
        TurnpikeError: MISSING_FIELD or INVALID_VALUE naming the field.
    """
    return SlotsAsk(
        holder_id=uuid_text(request.holder_id, "holder_id"),
        sequence=check_count(request.sequence, "sequence"),
        kept=check_count(request.kept_slot_count, "kept_slot_count"),
        needed=check_count(request.needed_slot_count, "needed_slot_count"),
    )


def slots_message(slots: Slots | None, limit: int) -> pb.LeaseSlotsResponse:
    """Return a holder's slots' message; None says that the holder is lost."""
    if slots is None:
        return pb.LeaseSlotsResponse(is_lost=True)
    return pb.LeaseSlotsResponse(
        slot_count=slots.held, free_slot_count=slots.free, concurrent_requests=limit
    )


def holder_step_of(request: pb.RenewHolderRequest) -> HolderStep:
    """Return what a holder says of itself; a step that is not known here renews."""
    return _STEPS.get(request.step, HolderStep.RENEW)


def holder_message(lease_ms: int | None) -> pb.RenewHolderResponse:
    """Return a holder's message; None says that it is lost."""
    duration = Duration()
    duration.FromMilliseconds(lease_ms or 0)
    return pb.RenewHolderResponse(duration=duration, is_lost=lease_ms is None)


def defaults_of(request: pb.CreateAccountRequest) -> RoutingDefaults:
    """Return how a new account's requests are routed when they do not say.

    Raises:
        TurnpikeError: INVALID_VALUE with `param=routing_strategy`.
    """
    strategy = check_strategy(request.routing_strategy)
    return RoutingDefaults(strategy, is_external_allowed(request))


def is_external_allowed(request: pb.CreateAccountRequest | pb.CreateKeyRequest) -> bool | None:
    """Return whether resellers may serve; None when the request does not say."""
    return request.is_external_allowed if request.HasField("is_external_allowed") else None


def account_message(account: Account) -> pb.Account:
    """Return an account's message."""
    return pb.Account(
        account_id=account.account_id,
        name=account.name,
        create_time=_timestamp(account.create_unix_ms),
        routing_strategy=account.defaults.strategy,
        is_external_allowed=account.defaults.is_external_allowed,
    )


def lease_message(leased: Leased) -> pb.LeaseRateResponse:
    """Return a rate lease's message."""
    window_left = Duration()
    window_left.FromMilliseconds(leased.left_ms)
    return pb.LeaseRateResponse(
        is_granted=leased.grant.is_granted,
        granted_request_count=leased.grant.requests,
        granted_token_count=leased.grant.tokens,
        remaining_request_count=leased.grant.remaining_requests,
        remaining_token_count=leased.grant.remaining_tokens,
        window_left=window_left,
        is_token_limited=leased.grant.is_token_limited,
        requests_per_minute=leased.limits.requests,
        tokens_per_minute=leased.limits.tokens,
    )


class KeyMessages:
    """Messages about keys; they need the tiers, the time and the usual overlap."""

    def __init__(self, tiers: Tiers, *, clock: Clock, rotation_overlap_ms: int) -> None:
        self._tiers = tiers
        self._clock = clock
        self._rotation_overlap_ms = rotation_overlap_ms

    def spec_of(self, request: pb.CreateKeyRequest) -> KeySpec:
        """Return what a new key may do.

        Raises:
            TurnpikeError: MISSING_FIELD or INVALID_VALUE naming the field.
        """
        return KeySpec(
            account_id=uuid_text(request.account_id, "account_id"),
            name=check_name(request.name, is_required=False),
            scopes=check_scopes(request.scopes),
            models=check_models(request.models),
            tier=self._tiers.check(request.tier),
            dialect=check_dialect(request.dialect),
            expire_unix_ms=self._expire_of(request),
            requests_per_minute=_limit_of(request, "requests_per_minute"),
            tokens_per_minute=_limit_of(request, "tokens_per_minute"),
            concurrent_requests=_limit_of(request, "concurrent_requests"),
            is_strict=request.is_strict,
            routing_strategy=check_strategy(request.routing_strategy),
            is_external_allowed=is_external_allowed(request),
        )

    def overlap_ms_of(self, request: pb.RotateKeyRequest) -> int:
        """Return how long the old secret lives on, milliseconds.

        Raises:
            TurnpikeError: INVALID_VALUE with `param=overlap`.
        """
        if not request.HasField("overlap"):
            return self._rotation_overlap_ms
        overlap = request.overlap
        is_negative = overlap.seconds < 0 or overlap.nanos < 0
        if is_negative or overlap.seconds > OVERLAP_MAX_S or overlap.nanos >= 10**9:
            message = f"overlap must be between 0 and {OVERLAP_MAX_S} seconds."
            raise TurnpikeError(Reason.INVALID_VALUE, message, param="overlap")
        return overlap.ToMilliseconds()

    def key(self, key: Key) -> pb.Key:
        """Return a key's message."""
        return pb.Key(
            principal=self.principal(key, key.spec.expire_unix_ms),
            name=key.spec.name,
            hint=key.hint,
            state=pb.Key.STATE_REVOKED if key.is_revoked else pb.Key.STATE_ACTIVE,
            create_time=_timestamp(key.create_unix_ms),
        )

    def principal(self, key: Key, expire_unix_ms: int | None) -> principal_pb2.Principal:
        """Return who a key is, with the limits in force now."""
        limits = self._tiers.limits_of(key.spec)
        return principal_pb2.Principal(
            account_id=key.spec.account_id,
            key_id=key.key_id,
            scopes=key.spec.scopes,
            models=key.spec.models,
            tier=key.spec.tier,
            dialect=key.spec.dialect,
            requests_per_minute=limits.requests,
            tokens_per_minute=limits.tokens,
            expire_time=None if expire_unix_ms is None else _timestamp(expire_unix_ms),
            concurrent_requests=limits.concurrent_requests,
            is_strict=key.spec.is_strict,
            routing_strategy=key.routing.strategy,
            is_external_allowed=key.routing.is_external_allowed,
        )

    def _expire_of(self, request: pb.CreateKeyRequest) -> int | None:
        if not request.HasField("expire_time"):
            return None
        seconds, nanos = request.expire_time.seconds, request.expire_time.nanos
        is_sane = 0 < seconds <= _EXPIRE_MAX_S and 0 <= nanos < 10**9
        unix_ms = seconds * 1000 + nanos // 1_000_000
        if not is_sane or unix_ms <= self._clock.unix_ms():
            message = "expire_time is not in the future."
            raise TurnpikeError(Reason.INVALID_VALUE, message, param="expire_time")
        return unix_ms


def _limit_of(
    request: pb.CreateKeyRequest,
    name: Literal["requests_per_minute", "tokens_per_minute", "concurrent_requests"],
) -> int | None:
    return check_count(getattr(request, name), name) if request.HasField(name) else None


def _timestamp(unix_ms: int) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromMilliseconds(unix_ms)
    return timestamp
