"""Challenges: what a 402 asks for, bound to a secret so that nothing has to be stored.

Pure. Source: paymentauth.org draft 00, `WWW-Authenticate: Payment`; facts agreed with two SDKs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

CHALLENGE_BYTES_MAX: Final = 8 * 1024 - 1
NONCE_KEY: Final = "nonce"
"""Member of `opaque` that makes two challenges of one second differ."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What is offered, before it is bound to a time and a secret.

    `request` are the price terms; `memo` are further flat strings that come back in `opaque`, such
    as the resource; `header` names the field for the credential where it is not Authorization.
    """

    realm: str
    method: str
    intent: str
    request: Mapping[str, object]
    memo: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    header: str = ""


@dataclass(frozen=True, slots=True)
class Challenge:
    """A challenge as it is on the wire; a text that is absent there is empty here."""

    id: str
    realm: str
    method: str
    intent: str
    request_b64: str
    expires: str = ""
    digest: str = ""
    description: str = ""
    opaque_b64: str = ""
    header: str = ""

    @property
    def request(self) -> dict[str, object]:
        """The price terms, decoded anew at each use.

        Raises:
            PaymentError: malformed-credential.
        """
        raise NotImplementedError

    @property
    def opaque(self) -> dict[str, str]:
        """What the issuer wrote for itself: the nonce and the offer's memo; decoded at each use.

        Raises:
            PaymentError: malformed-credential.
        """
        raise NotImplementedError

    def is_expired(self, now_unix_s: int) -> bool:
        """Whether it may no longer be answered; one without a readable end may never be."""
        raise NotImplementedError


def issue(secret: str, offer: Offer, *, expires_unix_s: int, nonce: str) -> Challenge:
    """Return a challenge whose id binds everything but the description.

    It never has a digest: vouchers come with an empty body.

    Raises:
        ValueError: The offer cannot be written, or its header value is too large.
    """
    raise NotImplementedError


def is_ours(challenge: Challenge, secrets: Sequence[str]) -> bool:
    """Return whether one of the secrets made the id; constant time in id and secrets."""
    raise NotImplementedError


def header_value(challenge: Challenge) -> str:
    """Return the value of WWW-Authenticate; characters above Latin-1 are escaped as UTF-16.

    Raises:
        ValueError: A control character, or more than `CHALLENGE_BYTES_MAX` bytes.
    """
    raise NotImplementedError


def read_challenges(header: str) -> list[Challenge]:
    """Return the Payment challenges of one header value in order; other schemes are passed over.

    Raises:
        ValueError: The value is no list of challenges, or a Payment challenge lacks a parameter,
            has one twice or cannot be decoded.
    """
    raise NotImplementedError
