"""The border of the caps: checks what was asked and translates; it decides nothing."""

from typing import Final, TypeAlias

import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from kit.errors import Reason, TurnpikeError
from services.payment.batch import AMOUNT_NUSD_MAX, ID_LENGTH_MAX
from services.payment.caps.budgets import Budgets
from services.payment.caps.store import CapStore, Wish, cap_name
from services.payment.caps.store_limits import Wanted
from services.payment.caps.windows import END_OF_TIME_MS, CapName, CapState, Scope, Window
from services.payment.ledger import ACCOUNT_ID_LENGTH_MAX
from turnpike.payment.v1 import caps_pb2 as pb
from turnpike.payment.v1.caps_pb2_grpc import CapsServiceServicer

_PAGE_SIZE_DEFAULT: Final = 100
_PAGE_SIZE_MAX: Final = 1_000
_PLACE_PARTS: Final = 3
_SEPARATOR: Final = "\x1f"
_SCOPES: Final = {
    pb.CapName.SCOPE_ACCOUNT: Scope.ACCOUNT,
    pb.CapName.SCOPE_KEY: Scope.KEY,
    pb.CapName.SCOPE_EPISODE: Scope.EPISODE,
    pb.CapName.SCOPE_KEY_EPISODE: Scope.KEY_EPISODE,
}
_WINDOWS: Final = {
    pb.CapName.WINDOW_DAY: Window.DAY,
    pb.CapName.WINDOW_MONTH: Window.MONTH,
    pb.CapName.WINDOW_TOTAL: Window.TOTAL,
}
_SCOPE_NUMBERS: Final = {scope: number for number, scope in _SCOPES.items()}
_WINDOW_NUMBERS: Final = {window: number for number, window in _WINDOWS.items()}

Context: TypeAlias = grpc.aio.ServicerContext[Message, Message]


class CapsServicer(CapsServiceServicer):
    """Serves `turnpike.payment.v1.CapsService`."""

    def __init__(self, store: CapStore, budgets: Budgets) -> None:
        self._store = store
        self._budgets = budgets

    async def SetCap(self, request: pb.SetCapRequest, context: Context) -> pb.SetCapResponse:
        if not 0 <= request.limit_nusd <= AMOUNT_NUSD_MAX:
            what = f"is {request.limit_nusd}; 0 to {AMOUNT_NUSD_MAX} is allowed"
            raise _invalid("limit_nusd", what)
        changed = await self._budgets.set(
            Wish(
                name=_name(request.name),
                limit_nusd=request.limit_nusd,
                request_id=_id(request.request_id, "request_id"),
                is_tightening_only=request.is_tightening_only,
                key_id=_printable(request.key_id, "key_id"),
            )
        )
        return pb.SetCapResponse(cap=_cap(changed.cap))

    async def RemoveCap(
        self, request: pb.RemoveCapRequest, context: Context
    ) -> pb.RemoveCapResponse:
        request_id = _id(request.request_id, "request_id")
        changed = await self._store.remove(_name(request.name), request_id=request_id)
        return pb.RemoveCapResponse(cap=_cap(changed.cap))

    async def ListCaps(self, request: pb.ListCapsRequest, context: Context) -> pb.ListCapsResponse:
        if not 0 <= request.page_size <= _PAGE_SIZE_MAX:
            raise _invalid("page_size", f"is {request.page_size}; 1 to {_PAGE_SIZE_MAX} is allowed")
        size = request.page_size or _PAGE_SIZE_DEFAULT
        found = await self._store.page(
            Wanted(
                account_id=_account(request.account_id),
                key_id=_printable(request.key_id, "key_id"),
                has_episodes=request.has_episodes,
                after=_place(request.page_token),
                count_max=size,
            )
        )
        token = _SEPARATOR.join(found[-1].name[1:]) if len(found) == size else ""
        return pb.ListCapsResponse(caps=map(_cap, found), next_page_token=token)

    async def GetEpisode(
        self, request: pb.GetEpisodeRequest, context: Context
    ) -> pb.GetEpisodeResponse:
        found = await self._store.episode(
            _account(request.account_id),
            _id(request.episode_id, "episode_id"),
            key_id=_printable(request.key_id, "key_id"),
        )
        if found.limit_nusd is None and not found.used_nusd:
            raise TurnpikeError(
                Reason.NOT_FOUND, "Nothing is known of this episode.", param="episode_id"
            )
        return pb.GetEpisodeResponse(
            is_capped=found.limit_nusd is not None,
            limit_nusd=found.limit_nusd or 0,
            spent_nusd=max(0, found.used_nusd - found.held_nusd),
            held_nusd=found.held_nusd,
        )


def _name(name: pb.CapName) -> CapName:
    scope, window = _SCOPES.get(name.scope), _WINDOWS.get(name.window)
    if scope is None:
        raise _invalid("scope", "must be account, key, episode or key_episode")
    if window is None:
        raise _invalid("window", "must be day, month or total")
    subject = _printable(name.subject, "subject")
    return cap_name(_account(name.account_id), scope, subject, window)


def _cap(state: CapState) -> pb.Cap:
    name = state.name
    cap = pb.Cap(
        name=pb.CapName(
            account_id=name.account_id,
            scope=_SCOPE_NUMBERS[name.scope],
            subject=name.subject,
            window=_WINDOW_NUMBERS[name.window],
        ),
        limit_nusd=state.limit_nusd,
        used_nusd=state.used_nusd,
    )
    if state.span.end_unix_ms < END_OF_TIME_MS:
        cap.reset_time.CopyFrom(Timestamp(seconds=state.span.end_unix_ms // 1000))
    return cap


def _place(token: str) -> tuple[str, str, str]:
    if not token:
        return "", "", ""
    parts = token.split(_SEPARATOR)
    if len(parts) != _PLACE_PARTS:
        raise _invalid("page_token", "is not one that a page gave")
    return parts[0], parts[1], parts[2]


def _printable(value: str, name: str, *, length_max: int = ID_LENGTH_MAX) -> str:
    if len(value) > length_max or not value.isprintable():
        raise _invalid(name, f"must be printable and at most {length_max} characters long")
    return value


def _id(value: str, name: str) -> str:
    if not value:
        raise TurnpikeError(Reason.MISSING_FIELD, f"{name} is required.", param=name)
    return _printable(value, name)


def _account(value: str) -> str:
    _id(value, "account_id")
    return _printable(value, "account_id", length_max=ACCOUNT_ID_LENGTH_MAX)


def _invalid(name: str, what: str) -> TurnpikeError:
    return TurnpikeError(Reason.INVALID_VALUE, f"{name} {what}.", param=name)
