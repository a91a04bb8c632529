"""Who signed a digest: secp256k1 recovery that takes only what Tempo's verifier takes.

Pure. 65 bytes r, s, v; v is 27 or 28; s is in the lower half. Compact, high-s, P-256 and WebAuthn
signatures are refused: the payee could never settle some of them, and does not check the others.
Sources: EIP-712 for what is signed, EIP-2 for the lower half.
"""

from typing import Final

from coincurve import PublicKey

from services.payment.mpp.addresses import ADDRESS_BYTES, keccak, word

SIGNATURE_BYTES: Final = 65
_ORDER: Final = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
_S_MAX: Final = _ORDER // 2
_V_FIRST: Final = 27
_DOMAIN: Final = keccak(b"EIP712Domain(string name,string version,uint256 chainId)")
_CONTRACT_DOMAIN: Final = keccak(
    b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
_VERSION: Final = keccak(b"1")


def recover(digest: bytes, signature: bytes) -> str:
    """Return the signer's address in lower-case hex.

    Raises:
        ValueError: The signature is not of the one form, or belongs to no key.
    """
    if len(signature) != SIGNATURE_BYTES:
        raise ValueError(f"Signature has {len(signature)} bytes; {SIGNATURE_BYTES} needed.")
    recovery_id = signature[64] - _V_FIRST
    if recovery_id not in (0, 1):
        raise ValueError("The last byte of the signature must be 27 or 28.")
    # The library recovers a key from a high s as well; the chain does not.
    if int.from_bytes(signature[32:64]) > _S_MAX:
        raise ValueError("The s of the signature must be in the lower half.")
    try:
        key = PublicKey.from_signature_and_message(
            signature[:64] + bytes((recovery_id,)), digest, hasher=None
        )
    except ValueError:
        raise ValueError("Signature belongs to no key.") from None
    return "0x" + keccak(key.format(compressed=False)[1:])[-ADDRESS_BYTES:].hex()


def domain_hash(name: str, chain_id: int, contract: str = "") -> bytes:
    """Return the EIP-712 hash of a domain of version 1, 32 bytes; without a contract if empty."""
    head = (_CONTRACT_DOMAIN if contract else _DOMAIN) + keccak(name.encode()) + _VERSION
    return keccak(head + word(chain_id) + (word(contract) if contract else b""))


def typed_digest(domain: bytes, struct: bytes) -> bytes:
    """Return what is signed for a struct hash in a domain, 32 bytes."""
    return keccak(b"\x19\x01" + domain + struct)
