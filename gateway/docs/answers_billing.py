"""Answers about money, as msgspec structs for the description of the API; pure.

They are made in `gateway.billing`; the tests hold what is served to these.
"""

from typing import Literal

import msgspec


class CheckoutAnswer(msgspec.Struct):
    """Where a top-up is paid."""

    id: str
    object: Literal["billing.checkout"]
    url: str


class RechargeTerms(msgspec.Struct):
    """When and how far a balance is recharged, US cents."""

    below_cents: int
    amount_cents: int
    daily_max_cents: int


class BillingAnswer(msgspec.Struct):
    """How an account pays and where it stands; amounts are decimal USD."""

    object: Literal["billing"]
    standing: Literal["active", "debt", "suspended"]
    available_usd: str
    held_usd: str
    debt_usd: str
    has_card: bool
    is_charging: bool
    decline_count: int
    auto_recharge: RechargeTerms | None
    is_postpaid: bool
    credit_limit_usd: str
    unbilled_usd: str


class InvoiceLine(msgspec.Struct):
    """A posting or a group of them; a group has no reference, and 0 as its time."""

    kind: str
    subject: str
    reference: str
    count: int
    amount_usd: str
    created: int


class InvoiceAnswer(msgspec.Struct, omit_defaults=True):
    """One month in UTC; opening and lines add up to closing. A list has no lines."""

    id: str
    object: Literal["invoice"]
    is_final: bool
    opening_usd: str
    credited_usd: str
    charged_usd: str
    refunded_usd: str
    reversed_usd: str
    closing_usd: str
    lines: list[InvoiceLine] = []


class InvoiceList(msgspec.Struct):
    """The months of an account, newest first."""

    object: Literal["list"]
    data: list[InvoiceAnswer]
