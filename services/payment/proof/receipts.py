"""Receipts: what one charge or refund says about itself, as bytes, and the chain of an account.

Pure. A receipt is a row of text fields in the order of `FIELDS`, framed; its hash covers the one
before of the same account, so that none can be changed, left out or moved. The format is
documented in `docs/receipts.md`.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Final, NamedTuple

from kit.money import round_up_nusd
from services.payment.batch import AMOUNT_NUSD_MAX, Charge, Refund
from services.payment.ledger import GENESIS_HASH
from services.payment.proof.framing import field, framed, in_order, named
from turnpike.events.v1.events_pb2 import UsageEvent
from turnpike.type.v1 import usage_pb2

FORM: Final = "1"
CHARGE: Final = "charge"
REFUND: Final = "refund"
MARK_BYTES: Final = 8
"""How much of a receipt's own digest is kept beside a root, to find the one that was changed."""
COUNT_MAX: Final = 2**31

_PRICE: Final = (
    "price_id",
    "input_pusd_per_token",
    "output_pusd_per_token",
    "request_pusd",
    "unit_pusd",
    "unit",
)
_TOKENS: Final = (
    "prompt_token_count",
    "cached_prompt_token_count",
    "completion_token_count",
    "reasoning_token_count",
    "unit_count",
)
_SOLD: Final = ("key_id", "model_id", "deployment", "provider")
_AMOUNTS: Final = ("charge_nusd", "charged_nusd", "writeoff_nusd", "refunded_nusd")
FIELDS: Final = (
    "form",
    "kind",
    "account_id",
    "receipt_seq",
    "request_id",
    *_SOLD,
    *_PRICE,
    "price_version",
    *_TOKENS,
    "token_source",
    *_AMOUNTS,
    "reason",
    "outcome",
    "finish_reason",
    "start_unix_ms",
    "end_unix_ms",
    "posted_unix_ms",
)
"""The fields of a receipt, in the order in which they are hashed; all are text."""

_SOURCES: Final[Mapping[int, str]] = {
    usage_pb2.USAGE_SOURCE_UPSTREAM: "upstream",
    usage_pb2.USAGE_SOURCE_ESTIMATED: "estimated",
}
_OUTCOMES: Final = {
    value: name.removeprefix("OUTCOME_").lower() for name, value in UsageEvent.Outcome.items()
}
_read_sold: Final = attrgetter(*_SOLD)
_read_price: Final = attrgetter(*_PRICE)
_read_tokens: Final = attrgetter(*_TOKENS)
_SOLD_MAX: Final = 1_024
_NUMBERS_MAX: Final = 8_192


class Receipt(NamedTuple):
    """A receipt with its place in the account's chain.

    `body` is its fields, framed, `digest` that of the body alone, `hash` the chained one.
    """

    receipt_seq: int
    kind: str
    event_id: str
    account_id: str
    body: bytes
    digest: bytes
    hash: bytes


class Head(NamedTuple):
    """The last receipt of an account; nothing has the position 0."""

    receipt_seq: int = 0
    hash: bytes = GENESIS_HASH


def charge_receipt(charge: Charge, event: UsageEvent, head: Head, posted_unix_ms: int) -> Receipt:
    """Return the receipt of a charge, behind the account's last one."""
    amounts = (charge.charge_nusd, charge.charged_nusd, charge.writeoff_nusd, 0)
    return _receipt(CHARGE, event, head, posted_unix_ms, (amounts, ""))


def refund_receipt(refund: Refund, event: UsageEvent, head: Head) -> Receipt:
    """Return the receipt of a refund, behind the account's last one."""
    amounts = (0, 0, 0, refund.refunded_nusd)
    return _receipt(REFUND, event, head, refund.unix_ms, (amounts, refund.reason))


def _receipt(
    kind: str,
    event: UsageEvent,
    head: Head,
    posted_unix_ms: int,
    told: tuple[tuple[int, ...], str],
) -> Receipt:
    seq, (amounts, reason), usage = head.receipt_seq + 1, told, event.usage
    moments = (event.start_unix_ms, event.end_unix_ms, posted_unix_ms)
    body = (
        f"{_head(kind, event.account_id)}{field(str(seq))}{field(event.request_id)}"
        f"{_sold(*_read_sold(event))}{_priced(*_read_price(event.price))}"
        f"{_numbers(_read_tokens(usage))}{field(_SOURCES.get(usage.source, 'unstated'))}"
        f"{_numbers(amounts)}{field(reason)}"
        f"{field(_OUTCOMES.get(event.outcome, 'unknown'))}{field(event.finish_reason)}"
        f"{_numbers(moments)}"
    ).encode()
    digest = digest_of(body)
    hashed = _chained(head.hash, digest)
    return Receipt(seq, kind, event.event_id, event.account_id, body, digest, hashed)


def _numbers(values: Iterable[int]) -> str:
    return "".join(map(_number, values))


@lru_cache(maxsize=_NUMBERS_MAX)
def _number(value: int) -> str:
    return field(str(value))


@lru_cache(maxsize=_SOLD_MAX)
def _head(kind: str, account_id: str) -> str:
    return framed((FORM, kind, account_id))


@lru_cache(maxsize=_SOLD_MAX)
def _sold(*names: str) -> str:
    return framed(names)


@lru_cache(maxsize=_SOLD_MAX)
def _priced(*price: str | int) -> str:
    row = [*map(str, price)]
    return framed((*row, price_version(row)))


def price_version(row: Sequence[str]) -> str:
    """Return what names a price row for good: the digest of its six fields, lower-case hex."""
    return hashlib.sha256(framed(row).encode()).hexdigest()


def digest_of(body: bytes) -> bytes:
    """Return the digest of a receipt's fields alone."""
    return hashlib.sha256(body).digest()


def receipt_hash(previous: bytes, body: bytes) -> bytes:
    """Return a receipt's hash, chained to the account's one before."""
    return _chained(previous, digest_of(body))


def mark(body: bytes) -> bytes:
    """Return what finds a receipt that was changed: the start of its own digest."""
    return digest_of(body)[:MARK_BYTES]


def covered(rows_hash: bytes, digests: Sequence[bytes]) -> bytes:
    """Return the detail hash of a transaction: over its rows and the digests of their receipts.

    Not over the receipts' chained hashes: else a changed receipt would change what every later
    transaction of the account covers, and none of them could be judged by itself.
    """
    return hashlib.sha256(rows_hash + b"".join(digests)).digest() if digests else rows_hash


def _chained(previous: bytes, digest: bytes) -> bytes:
    return hashlib.sha256(previous + digest).digest()


def fields_of(body: bytes) -> dict[str, str]:
    """Return a receipt's fields by name.

    Raises:
        ValueError: It is no receipt.
    """
    return named(FIELDS, body.decode())


def body_of(fields: Mapping[str, object]) -> bytes:
    """Return a receipt's bytes.

    Raises:
        ValueError: It is not exactly the fields of a receipt.
    """
    return framed(in_order(FIELDS, fields)).encode()


def flaws(fields: Mapping[str, str]) -> list[str]:
    """Return what of a receipt does not follow from the rest of it; each is one sentence."""
    try:
        figures = {name: _whole(fields[name], name) for name in _NUMBERS}
    except ValueError as error:
        return [str(error)]
    if fields["form"] != FORM or fields["kind"] not in (CHARGE, REFUND):
        return [f"Form {fields['form']} of kind {fields['kind']} is unknown."]
    found = []
    if price_version([fields[name] for name in _PRICE]) != fields["price_version"]:
        found.append("The price version is not that of the price row.")
    charge_nusd, charged_nusd, writeoff_nusd, refunded_nusd = (figures[name] for name in _AMOUNTS)
    if charged_nusd + writeoff_nusd != charge_nusd:
        found.append(f"{charged_nusd} charged and {writeoff_nusd} lost are not {charge_nusd} nUSD.")
    if fields["kind"] == REFUND:
        if charge_nusd or not refunded_nusd:
            found.append("A refund charges nothing and gives something back.")
        return found
    expected = _priced_nusd(figures)
    if charge_nusd != expected:
        found.append(f"Price times tokens is {expected} nUSD; the charge is {charge_nusd}.")
    if refunded_nusd:
        found.append("A charge gives nothing back.")
    return found


def _priced_nusd(figures: Mapping[str, int]) -> int:
    """Return price times tokens, nano-USD, rounded up once."""
    return round_up_nusd(
        figures["request_pusd"]
        + figures["prompt_token_count"] * figures["input_pusd_per_token"]
        + figures["completion_token_count"] * figures["output_pusd_per_token"]
        + figures["unit_count"] * figures["unit_pusd"]
    )


_NUMBERS: Final = ("receipt_seq", *_PRICE[1:5], *_TOKENS, *_AMOUNTS)


def _whole(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit()) or str(int(text)) != text:
        raise ValueError(f"{name} is not a whole number.")
    number, limit = int(text), COUNT_MAX if name in _TOKENS else AMOUNT_NUSD_MAX
    if name != "receipt_seq" and number > limit:
        raise ValueError(f"{name} is {number}; at most {limit} is possible.")
    return number
