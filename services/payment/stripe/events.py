"""What a webhook of Stripe's says about a payment, and nothing else of it.

Pure. Whatever is not about a payment that was asked for here has no `intent_id` and is passed over.
Source: docs.stripe.com/api/events/types and the objects named there (API 2026-10-28).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from kit.errors import Reason, TurnpikeError
from services.payment.ledger import ACCOUNT_ID_LENGTH_MAX
from services.payment.stripe.rules import Reversal, Undoing, rank_of

ACCOUNT_KEY: Final = "turnpike_account"
"""Metadata of everything that is asked of Stripe: the account it is for."""
CHARGE_KEY: Final = "turnpike_charge"
"""Metadata of a charge that was made without anybody there: its number in the account."""
CURRENCY: Final = "usd"
_ID_CHARS_MAX: Final = 255
_CENTS_MAX: Final = 10**12
_CODE_CHARS_MAX: Final = 100

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class News:
    """What is known of a payment from one event; empty or zero is what the event does not say.

    `paid_cents` is the whole payment, `refunded_cents` all that its charge says was refunded.
    `reversal` is one refund or dispute, called `reversal_id`. `card_id` is a card that may be
    charged again, as of `card_unix_s`. `charge_number` names a charge that was made by itself;
    `decline_code` says why it was not paid.
    """

    event_id: str
    type: str
    intent_id: str = ""
    account_id: str = ""
    paid_cents: int = 0
    customer_id: str = ""
    card_id: str = ""
    card_unix_s: int = 0
    charge_number: int = 0
    refunded_cents: int = 0
    reversal_id: str = ""
    reversal: Reversal | None = None
    decline_code: str = ""


def read_event(body: bytes) -> News:
    """Return what a webhook's body says.

    Raises:
        TurnpikeError: INVALID_JSON, or INVALID_VALUE with the name of the field.
    """
    try:
        event = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TurnpikeError(Reason.INVALID_JSON, "The body is not JSON.") from error
    if not isinstance(event, dict):
        raise TurnpikeError(Reason.INVALID_JSON, "The body is not a JSON object.")
    event_id, kind = _id(event, "id"), _id(event, "type")
    if not event_id or not kind:
        raise _invalid("id" if not event_id else "type")
    said = _READERS.get(kind)
    if said is None:
        return News(event_id, kind)
    found = said(_object(_object(event, "data"), "object"), _whole(event, "created"))
    return News(event_id, kind, **found)


def intent_news(intent: Json, *, event_id: str = "", kind: str = "", created_s: int = 0) -> News:
    """Return what a paid PaymentIntent says, wherever it came from."""
    return News(event_id, kind, **_succeeded(intent, created_s))


def refund_news(refund: Json) -> News:
    """Return what a refund says that Stripe answered with."""
    return News("", "", **_refund(refund, 0))


def _session(session: Json, _created_s: int) -> dict[str, Any]:
    if session.get("mode") != "payment" or session.get("payment_status") != "paid":
        return {}
    return _paid(session, _id(session, "payment_intent"), _cents(session, "amount_total"))


def _succeeded(intent: Json, created_s: int) -> dict[str, Any]:
    name = "amount_received" if intent.get("amount_received") is not None else "amount"
    found = _paid(intent, _id(intent, "id"), _cents(intent, name))
    if found and intent.get("setup_future_usage") == "off_session":
        found |= {"card_id": _id(intent, "payment_method"), "card_unix_s": created_s}
    return found


def _failed(intent: Json, _created_s: int) -> dict[str, Any]:
    number = _charge_number(intent)
    if not number:
        return {}
    error = intent.get("last_payment_error")
    error = error if isinstance(error, dict) else {}
    code = error.get("decline_code") or error.get("code") or "not_paid"
    return {
        "intent_id": _id(intent, "id"),
        "account_id": _account(intent),
        "charge_number": number,
        "decline_code": str(code)[:_CODE_CHARS_MAX],
    }


def _charge(charge: Json, _created_s: int) -> dict[str, Any]:
    # A refund may be told before its payment is; the charge says enough about both.
    intent_id = _id(charge, "payment_intent")
    name = "amount_captured" if charge.get("amount_captured") is not None else "amount"
    if not intent_id:
        return {}
    refunded = {"intent_id": intent_id, "refunded_cents": _cents(charge, "amount_refunded")}
    return refunded | _paid(charge, intent_id, _cents(charge, name))


def _refund(refund: Json, _created_s: int) -> dict[str, Any]:
    return _reversal(refund, Undoing.REFUND)


def _dispute(dispute: Json, _created_s: int) -> dict[str, Any]:
    return _reversal(dispute, Undoing.DISPUTE)


def _reversal(found: Json, kind: Undoing) -> dict[str, Any]:
    intent_id, status = _id(found, "payment_intent"), _id(found, "status")
    if not intent_id or rank_of(kind, status) is None:
        return {}
    return {
        "intent_id": intent_id,
        "reversal_id": _id(found, "id"),
        "reversal": Reversal(kind, _cents(found, "amount"), status),
    }


def _paid(found: Json, intent_id: str, cents: int) -> dict[str, Any]:
    account_id = _account(found)
    if not intent_id or not account_id or found.get("currency") != CURRENCY or not cents:
        return {}
    return {
        "intent_id": intent_id,
        "account_id": account_id,
        "paid_cents": cents,
        "customer_id": _id(found, "customer"),
        "charge_number": _charge_number(found),
    }


_READERS: Final[Mapping[str, Callable[[Json, int], dict[str, Any]]]] = {
    "checkout.session.completed": _session,
    "checkout.session.async_payment_succeeded": _session,
    "payment_intent.succeeded": _succeeded,
    "payment_intent.payment_failed": _failed,
    "payment_intent.canceled": _failed,
    "charge.refunded": _charge,
    "charge.refund.updated": _refund,
    "refund.created": _refund,
    "refund.updated": _refund,
    "refund.failed": _refund,
    "charge.dispute.created": _dispute,
    "charge.dispute.updated": _dispute,
    "charge.dispute.closed": _dispute,
    "charge.dispute.funds_withdrawn": _dispute,
    "charge.dispute.funds_reinstated": _dispute,
}
TYPES: Final = tuple(_READERS)
"""The types of events that matter here; others are passed over."""


def _object(found: Json, name: str) -> Json:
    value = found.get(name)
    if not isinstance(value, dict):
        raise _invalid(name)
    return value


def _id(found: Json, name: str) -> str:
    value = found.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > _ID_CHARS_MAX or not value.isprintable():
        raise _invalid(name)
    return value


def _whole(found: Json, name: str) -> int:
    value = found.get(name, 0)
    if type(value) is not int or not 0 <= value <= _CENTS_MAX:
        raise _invalid(name)
    return int(value)


def _cents(found: Json, name: str) -> int:
    return _whole(found, name)


def _metadata(found: Json, name: str) -> str:
    metadata = found.get("metadata")
    value = metadata.get(name) if isinstance(metadata, dict) else None
    return value if isinstance(value, str) else ""


def _account(found: Json) -> str:
    value = _metadata(found, ACCOUNT_KEY)
    return value if len(value) <= ACCOUNT_ID_LENGTH_MAX and value.isprintable() else ""


def _charge_number(found: Json) -> int:
    value = _metadata(found, CHARGE_KEY)
    is_number = value.isascii() and value.isdecimal() and len(value) <= 12
    return int(value) if is_number else 0


def _invalid(name: str) -> TurnpikeError:
    return TurnpikeError(Reason.INVALID_VALUE, f"{name} is not what it should be.", param=name)
