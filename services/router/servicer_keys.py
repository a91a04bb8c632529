"""The border for the keys that accounts bring along: messages in, messages out, no secrets out."""

import base64
import re
from collections.abc import Callable
from typing import Final

import msgspec
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import SecretStr

from kit.errors import Reason, TurnpikeError
from services.router.catalog import Catalogue
from services.router.own_keys import OwnKeyRing
from services.router.provider_entries import KEYED_KINDS
from services.router.store import KeptKey, ProviderKeyStore
from turnpike.router.v1 import provider_keys_pb2 as pb
from turnpike.router.v1 import provider_keys_pb2_grpc

PAGE_SIZE_DEFAULT: Final = 100
PAGE_SIZE_MAX: Final = 1000
_ACCOUNT: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_PROVIDER_CHARS_MAX: Final = 200
_SECRET: Final = re.compile(r"[!-~]{8,4096}")
_TOKEN_CHARS_MAX: Final = 1_024
_OFF: Final = "This router keeps no keys of accounts: router.database_url is empty."


class ProviderKeysServicer(provider_keys_pb2_grpc.ProviderKeysServiceServicer):
    """Serves `turnpike.router.v1.ProviderKeysService`."""

    def __init__(
        self, store: ProviderKeyStore, ring: OwnKeyRing, *, catalogue: Callable[[], Catalogue]
    ) -> None:
        self._store = store
        self._ring = ring
        self._catalogue = catalogue

    async def ListProviderKeys(
        self, request: pb.ListProviderKeysRequest, context: object
    ) -> pb.ListProviderKeysResponse:
        size = _page_size(request.page_size)
        account_id = _account(request.account_id) if request.account_id else ""
        after = _after(request.page_token)
        found = await self._store.page(after=after, account_id=account_id, count_max=size + 1)
        shown = found[:size]
        return pb.ListProviderKeysResponse(
            keys=[_message(key) for key in shown],
            next_page_token=_token(shown[-1]) if found[size:] else "",
        )

    async def PutProviderKey(
        self, request: pb.PutProviderKeyRequest, context: object
    ) -> pb.PutProviderKeyResponse:
        account_id = _account(request.account_id)
        provider = self._keyed(request.provider)
        secret = SecretStr(request.secret.strip())
        if not _SECRET.fullmatch(secret.get_secret_value()):
            message = "secret is no key: 8 to 4,096 printable ASCII characters without spaces."
            raise TurnpikeError(Reason.INVALID_VALUE, message, param="secret")
        kept = await self._ring.put(account_id, provider, secret, has_fallback=request.has_fallback)
        return pb.PutProviderKeyResponse(key=_message(kept))

    async def DeleteProviderKey(
        self, request: pb.DeleteProviderKeyRequest, context: object
    ) -> pb.DeleteProviderKeyResponse:
        was_there = await self._ring.delete(
            _account(request.account_id), _provider(request.provider)
        )
        return pb.DeleteProviderKeyResponse(was_there=was_there)

    def _keyed(self, name: str) -> str:
        """Return the name of a provider that takes a plain key.

        Raises:
            TurnpikeError: NOT_FOUND: there is none; UNPROCESSABLE: it takes none.
        """
        kind = self._catalogue().kinds.get(_provider(name))
        if kind is None:
            message = f"The catalogue has no provider {name}."
            raise TurnpikeError(Reason.NOT_FOUND, message, param="provider")
        if kind not in KEYED_KINDS:
            message = (
                f"Provider {name} is of kind {kind}, which takes no plain key; an account can"
                f" bring one for {', '.join(sorted(KEYED_KINDS))}."
            )
            raise TurnpikeError(Reason.UNPROCESSABLE, message, param="provider")
        return name


class NoProviderKeysServicer(provider_keys_pb2_grpc.ProviderKeysServiceServicer):
    """Serves `turnpike.router.v1.ProviderKeysService` where there is no database for it."""

    async def ListProviderKeys(
        self, request: pb.ListProviderKeysRequest, context: object
    ) -> pb.ListProviderKeysResponse:
        raise TurnpikeError(Reason.UNPROCESSABLE, _OFF)

    async def PutProviderKey(
        self, request: pb.PutProviderKeyRequest, context: object
    ) -> pb.PutProviderKeyResponse:
        raise TurnpikeError(Reason.UNPROCESSABLE, _OFF)

    async def DeleteProviderKey(
        self, request: pb.DeleteProviderKeyRequest, context: object
    ) -> pb.DeleteProviderKeyResponse:
        raise TurnpikeError(Reason.UNPROCESSABLE, _OFF)


def _account(account_id: str) -> str:
    if not account_id:
        raise TurnpikeError(Reason.MISSING_FIELD, "account_id is missing.", param="account_id")
    if not _ACCOUNT.fullmatch(account_id):
        raise TurnpikeError(Reason.INVALID_VALUE, "account_id is no id.", param="account_id")
    return account_id


def _provider(name: str) -> str:
    if not name:
        raise TurnpikeError(Reason.MISSING_FIELD, "provider is missing.", param="provider")
    if len(name) > _PROVIDER_CHARS_MAX or not name.isprintable():
        raise TurnpikeError(Reason.INVALID_VALUE, "provider is no name.", param="provider")
    return name


def _page_size(asked: int) -> int:
    if not 0 <= asked <= PAGE_SIZE_MAX:
        message = f"page_size is {asked}; it must be between 1 and {PAGE_SIZE_MAX}."
        raise TurnpikeError(Reason.INVALID_VALUE, message, param="page_size")
    return asked or PAGE_SIZE_DEFAULT


def _token(key: KeptKey) -> str:
    text = msgspec.json.encode([key.account_id, key.provider])
    return base64.urlsafe_b64encode(text).decode()


def _after(token: str) -> tuple[str, str]:
    """Return what a page token stands for.

    Raises:
        TurnpikeError: INVALID_VALUE.
    """
    if not token:
        return "", ""
    found = _decoded(token) if len(token) <= _TOKEN_CHARS_MAX else None
    if found is None or not "".join(found).isprintable():
        message = "page_token is not one that this listing gave; start with an empty one."
        raise TurnpikeError(Reason.INVALID_VALUE, message, param="page_token")
    return found


def _decoded(token: str) -> tuple[str, str] | None:
    try:
        text = base64.b64decode(token, altchars=b"-_", validate=True)
        return msgspec.json.decode(text, type=tuple[str, str])
    except (ValueError, msgspec.DecodeError):
        return None


def _message(key: KeptKey) -> pb.ProviderKey:
    return pb.ProviderKey(
        account_id=key.account_id,
        provider=key.provider,
        hint=key.hint,
        has_fallback=key.has_fallback,
        create_time=_time(key.create_unix_ms),
        rotate_time=_time(key.rotate_unix_ms),
        sealing_key_id=key.sealed.key_id,
    )


def _time(unix_ms: int) -> Timestamp:
    return Timestamp(seconds=unix_ms // 1000, nanos=unix_ms % 1000 * 1_000_000)
