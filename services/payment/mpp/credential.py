"""Credentials: a challenge that comes back with a proof.

Pure. Source: paymentauth.org draft 00, `Authorization: Payment`. Nothing here says whether the
challenge is ours or the proof holds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from services.payment.mpp.challenge import Challenge

CREDENTIAL_BYTES_MAX: Final = 65_536


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential as it was sent; `source` is empty when absent."""

    challenge: Challenge
    payload: Mapping[str, object] = field(repr=False)
    source: str = ""


def read_credential(text: str) -> Credential:
    """Read the value of Authorization without its scheme; the size is checked first.

    Raises:
        PaymentError: malformed-credential, naming the member; never quotes the credential.
    """
    raise NotImplementedError


def credential_value(credential: Credential) -> str:
    """Return what `read_credential` reads. For clients and tests."""
    raise NotImplementedError
