"""The card rail's state as messages."""

from dataclasses import asdict

from services.payment.ledger import Kind
from services.payment.stripe.invoices import Invoice
from services.payment.stripe.rules import CENT_NUSD, Account, Purse, unbilled_nusd
from turnpike.payment.v1 import billing_pb2 as pb


def billing_message(account: Account, purse: Purse, is_charging: bool) -> pb.Billing:  # noqa: FBT001 - as the store returns them
    """Return how an account pays and where it stands."""
    billing = pb.Billing(
        account_id=account.account_id,
        standing=_standing(account, purse),
        has_card=account.has_card,
        available_nusd=purse.available_nusd,
        held_nusd=purse.held_nusd,
        debt_nusd=purse.debt_nusd,
        is_postpaid=account.is_postpaid,
        credit_limit_nusd=account.limit_nusd,
        unbilled_nusd=unbilled_nusd(account, purse),
        decline_count=account.decline_count,
        is_charging=is_charging,
    )
    if account.recharge_below_nusd:
        billing.auto_recharge.below_nusd = account.recharge_below_nusd
        billing.auto_recharge.amount_nusd = account.recharge_cents * CENT_NUSD
        billing.auto_recharge.daily_max_nusd = account.recharge_day_cents * CENT_NUSD
    return billing


def invoice_message(account_id: str, invoice: Invoice) -> pb.Invoice:
    """Return one month of an account."""
    return pb.Invoice(
        account_id=account_id,
        period=invoice.period,
        opening_nusd=invoice.opening_nusd,
        closing_nusd=invoice.closing_nusd,
        credited_nusd=invoice.of(Kind.CREDIT, Kind.VOUCHER, Kind.TRANSFER),
        charged_nusd=-invoice.of(Kind.SETTLEMENT),
        refunded_nusd=invoice.of(Kind.REFUND),
        reversed_nusd=-invoice.of(Kind.REVERSAL),
        lines=[pb.InvoiceLine(**asdict(line)) for line in invoice.lines],
        is_final=invoice.is_final,
    )


def _standing(account: Account, purse: Purse) -> "pb.Billing.Standing.ValueType":
    if account.is_suspended:
        return pb.Billing.STANDING_SUSPENDED
    return pb.Billing.STANDING_DEBT if purse.debt_nusd else pb.Billing.STANDING_ACTIVE
