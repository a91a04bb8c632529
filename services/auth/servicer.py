"""The border of this room: messages in, messages out, no decisions."""

from services.auth import messages
from services.auth.accounts import check_name
from services.auth.concurrency import Concurrency
from services.auth.messages import KeyMessages, page_of, page_token_of, request_id_of, uuid_text
from services.auth.rates import Rates
from services.auth.ring import KeyRing
from services.auth.store import AuthStore
from services.auth.verdicts import Verdicts
from turnpike.auth.v1 import auth_pb2 as pb
from turnpike.auth.v1 import auth_pb2_grpc


class AuthServicer(auth_pb2_grpc.AuthServiceServicer):
    """Serves `turnpike.auth.v1.AuthService`."""

    def __init__(
        self,
        store: AuthStore,
        *,
        ring: KeyRing,
        verdicts: Verdicts,
        rates: Rates,
        concurrency: Concurrency,
        keys: KeyMessages,
    ) -> None:
        self._store = store
        self._ring = ring
        self._verdicts = verdicts
        self._rates = rates
        self._concurrency = concurrency
        self._keys = keys

    async def CreateAccount(
        self, request: pb.CreateAccountRequest, context: object
    ) -> pb.CreateAccountResponse:
        account = await self._store.create_account(
            name=check_name(request.name, is_required=True),
            request_id=request_id_of(request.request_id),
            defaults=messages.defaults_of(request),
        )
        return pb.CreateAccountResponse(account=messages.account_message(account))

    async def GetAccount(
        self, request: pb.GetAccountRequest, context: object
    ) -> pb.GetAccountResponse:
        account = await self._store.get_account(uuid_text(request.account_id, "account_id"))
        return pb.GetAccountResponse(account=messages.account_message(account))

    async def ListAccounts(
        self, request: pb.ListAccountsRequest, context: object
    ) -> pb.ListAccountsResponse:
        page = page_of(request.page_size, request.page_token)
        found = await self._store.list_accounts(after=page.after, count_max=page.size + 1)
        shown = found[: page.size]
        return pb.ListAccountsResponse(
            accounts=[messages.account_message(account) for account in shown],
            next_page_token=page_token_of(shown[-1].account_id) if found[page.size :] else "",
        )

    async def CreateKey(
        self, request: pb.CreateKeyRequest, context: object
    ) -> pb.CreateKeyResponse:
        key, secret = await self._ring.create(
            self._keys.spec_of(request), request_id=request_id_of(request.request_id)
        )
        return pb.CreateKeyResponse(key=self._keys.key(key), secret=secret)

    async def ListKeys(self, request: pb.ListKeysRequest, context: object) -> pb.ListKeysResponse:
        page = page_of(request.page_size, request.page_token)
        owner = uuid_text(request.account_id, "account_id") if request.account_id else ""
        found = await self._store.list_keys(
            account_id=owner, after=page.after, count_max=page.size + 1
        )
        shown = found[: page.size]
        return pb.ListKeysResponse(
            keys=[self._keys.key(key) for key in shown],
            next_page_token=page_token_of(shown[-1].key_id) if found[page.size :] else "",
        )

    async def RevokeKey(
        self, request: pb.RevokeKeyRequest, context: object
    ) -> pb.RevokeKeyResponse:
        key = await self._ring.revoke(uuid_text(request.key_id, "key_id"))
        return pb.RevokeKeyResponse(key=self._keys.key(key))

    async def RotateKey(
        self, request: pb.RotateKeyRequest, context: object
    ) -> pb.RotateKeyResponse:
        key, secret = await self._ring.rotate(
            uuid_text(request.key_id, "key_id"), overlap_ms=self._keys.overlap_ms_of(request)
        )
        return pb.RotateKeyResponse(key=self._keys.key(key), secret=secret)

    async def VerifyKey(
        self, request: pb.VerifyKeyRequest, context: object
    ) -> pb.VerifyKeyResponse:
        key, expire_unix_ms = await self._verdicts.verify(request.key_digest)
        return pb.VerifyKeyResponse(principal=self._keys.principal(key, expire_unix_ms))

    async def LeaseRate(
        self, request: pb.LeaseRateRequest, context: object
    ) -> pb.LeaseRateResponse:
        ask = messages.ask_of(request)
        key = await self._verdicts.usable(uuid_text(request.key_id, "key_id"))
        return messages.lease_message(await self._rates.lease(key, ask))

    async def LeaseSlots(
        self, request: pb.LeaseSlotsRequest, context: object
    ) -> pb.LeaseSlotsResponse:
        ask = messages.slots_ask_of(request)
        key_id = uuid_text(request.key_id, "key_id")
        # What a revoked key's requests held still has to come back.
        find = self._verdicts.usable if ask.needed else self._verdicts.find
        slots, limit = await self._concurrency.lease(await find(key_id), ask)
        return messages.slots_message(slots, limit)

    async def RenewHolder(
        self, request: pb.RenewHolderRequest, context: object
    ) -> pb.RenewHolderResponse:
        holder_id = uuid_text(request.holder_id, "holder_id")
        step = messages.holder_step_of(request)
        return messages.holder_message(await self._concurrency.renew(holder_id, step))
