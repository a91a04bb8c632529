"""Charges: one transfer on chain pays for one request; what it leaves over is sent back."""

from services.payment.mpp.addresses import keccak, read_source
from services.payment.mpp.chain import Chain, ChainError, ChainFault, Transfer
from services.payment.mpp.challenge import Challenge
from services.payment.mpp.payloads import TransferHash, TransferTransaction
from services.payment.mpp.problems import PaymentError, Slug
from services.payment.mpp.settings import MppSettings
from services.payment.mpp.store import MppStore
from services.payment.mpp.store_chain import Received
from services.payment.mpp.vouchers import unavailable

_TAG = keccak(b"mpp")[:4] + b"\x01"
_SERVER = slice(5, 15)
_NONCE = slice(25, 32)


def is_bound(memo: str, *, realm: str, challenge_id: str) -> bool:
    """Return whether a transfer's memo says that it pays for this challenge.

    Source: attribution memo of the two public SDKs: tag, version, fingerprints of server and
    client, and of the challenge's id; 32 bytes.
    """
    data = bytes.fromhex(memo.removeprefix("0x"))
    return (
        data[:5] == _TAG
        and data[_SERVER] == keccak(realm.encode())[:10]
        and data[_NONCE] == keccak(challenge_id.encode())[:7]
    )


class Transfers:
    """Takes transfers once each."""

    def __init__(self, store: MppStore, chain: Chain, settings: MppSettings) -> None:
        self._store = store
        self._chain = chain
        self._settings = settings

    async def receive(
        self, payload: TransferTransaction | TransferHash, challenge: Challenge, *, source: str
    ) -> Received:
        """Return a transfer to us that is mined and posted; it never pays for another challenge.

        Raises:
            PaymentError: verification-failed, payment-forbidden for one that was used before,
                payment-unavailable while it is on its way.
        """
        if isinstance(payload, TransferTransaction):
            return await self._send("0x" + payload.transaction.hex(), challenge, source)
        return await self._look_up(payload.transaction_hash, challenge, source)

    async def _send(self, raw: str, challenge: Challenge, source: str) -> Received:
        try:
            paid = self._paid(self._chain.transfers_of(raw), challenge, source)
            tx_hash = self._chain.transaction_hash(raw)
        except ChainError as error:
            raise _refused(error) from None
        received = Received(tx_hash, paid.sender, paid.amount, challenge.id)
        await self._store.begin_transfer(received)
        try:
            await self._chain.broadcast(raw)
        except ChainError as error:
            if error.fault is ChainFault.UNAVAILABLE:
                raise unavailable() from error
            await self._store.drop_transfer(tx_hash)
            raise _refused(error) from None
        await self._store.finish_transfer(tx_hash)
        return received

    async def _look_up(self, tx_hash: str, challenge: Challenge, source: str) -> Received:
        try:
            paid = self._paid(await self._chain.transfers(tx_hash), challenge, source)
        except ChainError as error:
            raise _refused(error) from None
        if not paid.memo or not is_bound(
            paid.memo, realm=challenge.realm, challenge_id=challenge.id
        ):
            # Anybody can read a hash off the chain.
            raise PaymentError(
                Slug.VERIFICATION_FAILED, "The transfer's memo does not name this challenge."
            )
        received = Received(tx_hash, paid.sender, paid.amount, challenge.id)
        await self._store.begin_transfer(received)
        await self._store.finish_transfer(tx_hash)
        return received

    async def resume(self, tx_hash: str) -> None:
        """Go on with a transfer that was stored and whose end nobody saw."""
        try:
            await self._chain.transfers(tx_hash)
        except ChainError as error:
            if error.fault is ChainFault.REVERTED:
                await self._store.drop_transfer(tx_hash)
            return
        await self._store.finish_transfer(tx_hash)

    def _paid(self, transfers: tuple[Transfer, ...], challenge: Challenge, source: str) -> Transfer:
        amount = int(str(challenge.request.get("amount")))
        ours = [
            each
            for each in transfers
            if each.to == self._chain.payee
            and each.token == self._settings.chain.token
            and each.amount >= amount
        ]
        if not ours:
            raise PaymentError(
                Slug.VERIFICATION_FAILED, f"No transfer of {amount} to the payee was found."
            )
        paid = ours[0]
        if source:
            try:
                claimed = read_source(source).address
            except ValueError as error:
                raise PaymentError(Slug.VERIFICATION_FAILED, f"`source` {error}.") from None
            if claimed != paid.sender:
                raise PaymentError(
                    Slug.VERIFICATION_FAILED, "`source` is not who sent the transfer."
                )
        if paid.memo and not is_bound(paid.memo, realm=challenge.realm, challenge_id=challenge.id):
            raise PaymentError(
                Slug.VERIFICATION_FAILED, "The transfer's memo names another challenge."
            )
        return paid


def _refused(error: ChainError) -> PaymentError:
    if error.fault is ChainFault.UNAVAILABLE:
        return unavailable()
    return PaymentError(Slug.VERIFICATION_FAILED, f"The transfer is refused: {error.detail}")
