"""Who signed a digest: secp256k1 recovery that takes only what Tempo's verifier takes.

Pure. 65 bytes r, s, v; v is 27 or 28; s is in the lower half. Compact, high-s, P-256 and WebAuthn
signatures are refused: the payee could never settle some of them, and does not check the others.
"""

from typing import Final

SIGNATURE_BYTES: Final = 65


def recover(digest: bytes, signature: bytes) -> str:
    """Return the signer's address in lower-case hex.

    Raises:
        ValueError: The signature is not of the one form, or belongs to no key.
    """
    raise NotImplementedError
