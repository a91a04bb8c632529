"""What a 402 offers, and whether a challenge that comes back is one of these offers.

Pure but for the nonce it is given. A session's `amount` is what this request has to add: clients
sign the sum of what they signed before and this. So it is the reservation less what the channel
still has, where the client says which channel it means.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.payment.mpp.accept import preferred
from services.payment.mpp.challenge import Challenge, Offer, header_value, is_ours, issue
from services.payment.mpp.channels import Channel, headroom
from services.payment.mpp.payloads import AMOUNT_MAX, read_amount
from services.payment.mpp.postings import base_units_up
from services.payment.mpp.problems import PaymentError, Slug
from services.payment.mpp.settings import MppSettings
from services.payment.mpp.store_requests import Standing
from turnpike.payment.v1 import machine_pb2

METHOD: Final = "tempo"
SESSION: Final = "session"
CHARGE: Final = "charge"
_OFFERED: Final = (f"{METHOD}/{SESSION}", f"{METHOD}/{CHARGE}")
_RESOURCE: Final = "resource"


@dataclass(frozen=True, slots=True)
class Asking:
    """How a client asks: its headers, and the channel it means with where that stands."""

    accept_payment: str = ""
    header: str = ""
    channel: Channel | None = None
    standing: Standing | None = None


class Offers:
    """Issues challenges and recognises them."""

    def __init__(
        self,
        settings: MppSettings,
        *,
        payee: str,
        unix_ms: Callable[[], int],
        nonce: Callable[[], str],
    ) -> None:
        self._settings = settings
        self._payee = payee
        self._unix_ms = unix_ms
        self._nonce = nonce
        self._secrets = [secret.get_secret_value() for secret in settings.secrets]

    def challenges(self, terms: machine_pb2.Terms, asking: Asking) -> list[Challenge]:
        """Return one challenge for each offer, in the order that the client prefers."""
        expires_unix_s = self._unix_ms() // 1000 + self._settings.challenge_s
        made = []
        for name in preferred(asking.accept_payment, _OFFERED):
            intent = name.partition("/")[2]
            request = self._session(terms, asking) if intent == SESSION else self._charge(terms)
            offer = Offer(
                realm=terms.realm,
                method=METHOD,
                intent=intent,
                request=request,
                memo={_RESOURCE: terms.resource},
                header=asking.header,
            )
            made.append(
                issue(self._secrets[0], offer, expires_unix_s=expires_unix_s, nonce=self._nonce())
            )
        return made

    def refusal(
        self, error: PaymentError, terms: machine_pb2.Terms | None, asking: Asking
    ) -> machine_pb2.PaymentRefusal:
        """Return a refusal as it goes out; one of status 402 brings challenges."""
        found = machine_pb2.PaymentRefusal(
            http_status=error.problem.http_status,
            problem=error.slug,
            detail=error.message,
            reason=error.reason,
            extensions=error.metadata,
            retry_after_s=int(error.metadata.get("retry_after_s", "0")),
        )
        found.extensions.pop("retry_after_s", None)
        if terms is not None and found.http_status == 402:
            challenges = self.challenges(terms, asking)
            found.www_authenticate.extend(map(header_value, challenges))
            found.challenge_id = challenges[0].id
        return found

    def check(self, challenge: Challenge, *, realm: str, resource: str | None) -> int:
        """Return the amount that a challenge of ours asks for, base units.

        `resource` None stands for a credential that buys nothing. Its challenge may have expired:
        a stream outlives its challenge, and what such a credential does is signed for itself.

        Raises:
            PaymentError: invalid-challenge, payment-expired, method-unsupported, or
                verification-failed when it was for something else.
        """
        if not is_ours(challenge, self._secrets):
            raise PaymentError(Slug.INVALID_CHALLENGE, "The challenge is not one of ours.")
        if resource is not None and challenge.is_expired(self._unix_ms() // 1000):
            raise PaymentError(Slug.PAYMENT_EXPIRED, "The challenge has expired.")
        if challenge.method != METHOD or challenge.intent not in (SESSION, CHARGE):
            raise PaymentError(
                Slug.METHOD_UNSUPPORTED, "Method must be `tempo`, intent `session` or `charge`."
            )
        if challenge.realm != realm:
            raise PaymentError(Slug.VERIFICATION_FAILED, "The challenge is of another realm.")
        if resource is not None and challenge.opaque.get(_RESOURCE) != resource:
            raise PaymentError(
                Slug.VERIFICATION_FAILED, "The challenge is for another resource or model."
            )
        request = challenge.request
        if (
            request.get("currency") != self._settings.chain.token
            or request.get("recipient") != self._payee
            or not self._is_our_chain(request.get("methodDetails"))
        ):
            raise PaymentError(
                Slug.VERIFICATION_FAILED, "The terms of the challenge are no longer offered."
            )
        return read_amount(request.get("amount"))

    def _is_our_chain(self, details: object) -> bool:
        chain = self._settings.chain
        return (
            isinstance(details, dict)
            and details.get("chainId") == chain.chain_id
            and details.get("escrowContract", chain.escrow) == chain.escrow
        )

    def _session(self, terms: machine_pb2.Terms, asking: Asking) -> dict[str, object]:
        chain, need = self._settings.chain, base_units_up(terms.slice_nusd)
        details: dict[str, object] = {
            "escrowContract": chain.escrow,
            "chainId": chain.chain_id,
            "sessionProtocol": "v2",
            "minVoucherDelta": str(self._settings.voucher_delta_min_base_units),
        }
        missing, least = need, self._settings.voucher_delta_min_base_units
        if asking.channel is not None and asking.standing is not None:
            # A voucher that was used buys nothing more, so each request adds at least a little.
            missing = max(least, need - headroom(asking.standing.available_nusd))
            details["channelId"] = asking.channel.channel_id
            details["sessionSnapshot"] = self._snapshot(asking.channel, asking.standing, missing)
        # What a request could cost in all, and some more: a deposit is made once.
        deposit = max(self._settings.deposit_min_base_units, 2 * base_units_up(terms.hold_nusd))
        return {
            "amount": str(max(least, missing)),
            "unitType": "request",
            "suggestedDeposit": str(min(deposit, self._settings.deposit_max_base_units)),
            "currency": chain.token,
            "recipient": self._payee,
            "methodDetails": details,
        }

    def _charge(self, terms: machine_pb2.Terms) -> dict[str, object]:
        amount = max(1, base_units_up(terms.hold_nusd))
        return {
            "amount": str(min(amount, AMOUNT_MAX)),
            "currency": self._settings.chain.token,
            "recipient": self._payee,
            "methodDetails": {
                "chainId": self._settings.chain.chain_id,
                "supportedModes": ["pull", "push"],
            },
        }

    def _snapshot(self, channel: Channel, standing: Standing, missing: int) -> dict[str, object]:
        return {
            "acceptedCumulative": str(channel.accepted),
            "chainId": self._settings.chain.chain_id,
            "channelId": channel.channel_id,
            "deposit": str(channel.deposit),
            "descriptor": channel.descriptor.as_json(),
            "escrow": self._settings.chain.escrow,
            "requiredCumulative": str(channel.accepted + missing),
            "settled": str(channel.settled),
            "spent": str(base_units_up(standing.spent_nusd)),
        }
