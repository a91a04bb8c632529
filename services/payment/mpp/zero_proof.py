"""Proofs that cost nothing: a signature over a challenge's id by the address that claims it.

Pure. Source: tempo `charge` with amount 0; EIP-712 domain `MPP`, version 1, without a contract.
"""

from typing import Final

from services.payment.mpp.addresses import keccak, read_source
from services.payment.mpp.problems import PaymentError, Slug
from services.payment.mpp.signatures import domain_hash, recover, typed_digest

_NAME: Final = "MPP"
_TYPE: Final = keccak(b"Proof(string challengeId)")


def proof_digest(challenge_id: str, chain_id: int) -> bytes:
    """Return what is signed, 32 bytes."""
    struct = keccak(_TYPE + keccak(challenge_id.encode()))
    return typed_digest(domain_hash(_NAME, chain_id), struct)


def check_proof(signature: bytes, *, challenge_id: str, chain_id: int, source: str) -> str:
    """Return the payer's address in lower-case hex if it signed; `source` is the credential's DID.

    Raises:
        PaymentError: verification-failed.
    """
    try:
        claimed = read_source(source)
    except ValueError as error:
        raise PaymentError(Slug.VERIFICATION_FAILED, f"`source` {error}.") from None
    if claimed.chain_id != chain_id:
        raise PaymentError(
            Slug.VERIFICATION_FAILED, f"`source` is on chain {claimed.chain_id}; {chain_id} needed."
        )
    try:
        signer = recover(proof_digest(challenge_id, chain_id), signature)
    except ValueError as error:
        raise PaymentError(Slug.VERIFICATION_FAILED, str(error)) from None
    if signer != claimed.address:
        raise PaymentError(
            Slug.VERIFICATION_FAILED, "Signature is not by `source` over this challenge."
        )
    return signer
