"""Proofs that cost nothing: a signature over a challenge's id by the address that claims it.

Pure. Source: tempo `charge` with amount 0; EIP-712 domain `MPP`, version 1, without a contract.
"""


def proof_digest(challenge_id: str, chain_id: int) -> bytes:
    """Return what is signed, 32 bytes."""
    raise NotImplementedError


def check_proof(signature: bytes, *, challenge_id: str, chain_id: int, source: str) -> str:
    """Return the payer's address in lower-case hex if it signed; `source` is the credential's DID.

    Raises:
        PaymentError: verification-failed.
    """
    raise NotImplementedError
