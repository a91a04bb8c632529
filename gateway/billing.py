"""What clients read and write about money: requests, and answers as JSON and CSV; pure.

Amounts that are asked for are whole US cents, amounts that are told are decimal USD, exact to the
nano-USD.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from gateway.openai.bodies import parse_json
from gateway.openai.figures import Whole, whole, wrong
from kit.errors import TurnpikeError
from kit.money import format_usd
from kit.sheet import sheet
from turnpike.payment.v1 import billing_pb2 as pb

CENTS_MAX: Final = 99_999_999
_CENT_NUSD: Final = 10_000_000
_STANDINGS: Final = {
    pb.Billing.STANDING_ACTIVE: "active",
    pb.Billing.STANDING_DEBT: "debt",
    pb.Billing.STANDING_SUSPENDED: "suspended",
}
_COLUMNS: Final = ("kind", "subject", "reference", "count", "amount_usd", "time")


class CheckoutRequest(msgspec.Struct, forbid_unknown_fields=True):
    """`POST /v1/billing/checkout`."""

    amount_cents: Whole
    success_url: str | None = None
    cancel_url: str | None = None


class AutoRechargeRequest(msgspec.Struct, forbid_unknown_fields=True):
    """`POST /v1/billing/auto-recharge`; the amounts are needed where it is enabled."""

    is_enabled: bool
    below_cents: Whole | None = None
    amount_cents: Whole | None = None
    daily_max_cents: Whole | None = None


_read_checkout: Final = msgspec.json.Decoder(CheckoutRequest).decode
_read_recharge: Final = msgspec.json.Decoder(AutoRechargeRequest).decode


def read_checkout(body: bytes) -> pb.CreateCheckoutRequest:
    """Return the top-up that a body asks for, without its account.

    Raises:
        TurnpikeError: `INVALID_JSON`, `MISSING_FIELD` or `INVALID_VALUE`.
    """
    asked = parse_json(body, _read_checkout)
    return pb.CreateCheckoutRequest(
        amount_nusd=whole("amount_cents", asked.amount_cents, 1, CENTS_MAX) * _CENT_NUSD,
        success_url=asked.success_url or "",
        cancel_url=asked.cancel_url or "",
    )


def read_recharge(body: bytes) -> pb.SetAutoRechargeRequest:
    """Return the recharge that a body asks for, without its account.

    Raises:
        TurnpikeError: `INVALID_JSON`, `MISSING_FIELD` or `INVALID_VALUE`.
    """
    asked = parse_json(body, _read_recharge)
    amounts = {
        name: whole(name, value, 1, CENTS_MAX) * _CENT_NUSD
        for name in ("below_cents", "amount_cents", "daily_max_cents")
        if (value := getattr(asked, name)) is not None
    }
    if not asked.is_enabled:
        if amounts:
            name = next(iter(amounts))
            raise wrong(name, f"{name} has no meaning where is_enabled is false.")
        return pb.SetAutoRechargeRequest()
    for name in ("below_cents", "amount_cents", "daily_max_cents"):
        if name not in amounts:
            raise wrong(name, f"{name} is needed where is_enabled is true.")
    return pb.SetAutoRechargeRequest(
        auto_recharge=pb.AutoRecharge(
            below_nusd=amounts["below_cents"],
            amount_nusd=amounts["amount_cents"],
            daily_max_nusd=amounts["daily_max_cents"],
        )
    )


def as_asked(error: TurnpikeError) -> TurnpikeError:
    """Return a refusal of payment's with the field called as the client calls it."""
    name = error.metadata.get("param", "")
    if not name.endswith("_nusd"):
        return error
    asked = name.rpartition(".")[2].removesuffix("_nusd") + "_cents"
    message = error.message.replace(name, asked)
    return TurnpikeError(error.reason, message, **{**error.metadata, "param": asked})


def billing_object(billing: pb.Billing) -> dict[str, Any]:
    """Return how an account pays and where it stands."""
    recharge = None
    if billing.HasField("auto_recharge"):
        recharge = {
            "below_cents": billing.auto_recharge.below_nusd // _CENT_NUSD,
            "amount_cents": billing.auto_recharge.amount_nusd // _CENT_NUSD,
            "daily_max_cents": billing.auto_recharge.daily_max_nusd // _CENT_NUSD,
        }
    return {
        "object": "billing",
        "standing": _STANDINGS.get(billing.standing, "active"),
        "available_usd": format_usd(billing.available_nusd),
        "held_usd": format_usd(billing.held_nusd),
        "debt_usd": format_usd(billing.debt_nusd),
        "has_card": billing.has_card,
        "is_charging": billing.is_charging,
        "decline_count": billing.decline_count,
        "auto_recharge": recharge,
        "is_postpaid": billing.is_postpaid,
        "credit_limit_usd": format_usd(billing.credit_limit_nusd),
        "unbilled_usd": format_usd(billing.unbilled_nusd),
    }


def invoice_object(invoice: pb.Invoice, *, has_lines: bool) -> dict[str, Any]:
    """Return one month of an account."""
    found: dict[str, Any] = {
        "object": "invoice",
        "id": invoice.period,
        "is_final": invoice.is_final,
        **{
            f"{name}_usd": format_usd(getattr(invoice, f"{name}_nusd"))
            for name in ("opening", "credited", "charged", "refunded", "reversed", "closing")
        },
    }
    if has_lines:
        found["lines"] = [
            {
                "kind": line.kind,
                "subject": line.subject,
                "reference": line.reference,
                "count": line.count,
                "amount_usd": format_usd(line.amount_nusd),
                "created": line.unix_ms // 1000,
            }
            for line in invoice.lines
        ]
    return found


def invoice_csv(invoice: pb.Invoice) -> bytes:
    """Return one month of an account as a table; its amounts add up to the last one."""
    opening = ("opening", "", "", "", format_usd(invoice.opening_nusd), "")
    closing = ("closing", "", "", "", format_usd(invoice.closing_nusd), "")
    return "".join(sheet(_COLUMNS, (opening, *_rows(invoice.lines), closing))).encode()


def _rows(lines: Iterable[pb.InvoiceLine]) -> Iterable[tuple[str, ...]]:
    for line in lines:
        yield (
            line.kind,
            line.subject,
            line.reference,
            str(line.count),
            format_usd(line.amount_nusd),
            _time(line.unix_ms),
        )


def _time(unix_ms: int) -> str:
    if not unix_ms:
        return ""
    return datetime.fromtimestamp(unix_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
