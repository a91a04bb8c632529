"""Answers that every client API has, as msgspec structs for the description of the API; pure.

Answers are forwarded or built elsewhere, not from these; the fuzz tier holds what is served to
them.
"""

from typing import Literal

import msgspec


class ModelObject(msgspec.Struct, omit_defaults=True):
    """A model, an adapter on one, or a function."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    aliases: list[str] = []
    context_length: int = 0
    pricing: dict[str, str] = {}
    supported_parameters: list[str] = []
    parent: str = ""


class ModelList(msgspec.Struct):
    """What the key may use."""

    object: Literal["list"]
    data: list[ModelObject]


class RouteQuote(msgspec.Struct):
    """What a request would cost by the estimate and at most, USD."""

    estimated_usd: str
    worst_case_usd: str


class RouteCandidate(msgspec.Struct):
    """What became of one deployment; `score` is in the explanation's unit."""

    deployment: str
    excluded: str | None
    score: int
    is_in_band: bool
    estimated_usd: str
    worst_case_usd: str
    retry_after_s: float | None


class RouteExplanation(msgspec.Struct):
    """Which route a request would take now, and why."""

    object: Literal["route.explanation"]
    model: str
    strategy: Literal["balanced", "cheapest", "fastest"]
    score_unit: Literal["pusd", "us"]
    deployment: str | None
    quote: RouteQuote | None
    candidates: list[RouteCandidate]
    excluded: dict[str, int]
    snapshot_id: str
    rules_version: int
    seed: str


class Quote(msgspec.Struct):
    """A promise of prices, USD; its id is shown as `X-Quote-Id`."""

    id: str
    object: Literal["quote"]
    model: str
    expires_at: int
    pricing: dict[str, str]
    cost_usd_max: str


class ReceiptProof(msgspec.Struct):
    """Where a receipt stands under a signed root, and the hashes that lead there."""

    root: int
    index: int
    path: list[str]


class ReceiptEntry(msgspec.Struct):
    """One receipt, its hash and the one before; without a proof it is not signed yet."""

    type: Literal["receipt"]
    receipt: dict[str, str]
    previous: str
    hash: str
    proof: ReceiptProof | None


class Receipt(msgspec.Struct):
    """What one request was charged, and what was given back of it; see docs/receipts.md."""

    object: Literal["receipt"]
    request_id: str
    receipts: list[ReceiptEntry]
    roots: list[dict[str, str]]


class ErrorObject(msgspec.Struct, omit_defaults=True):
    """Why a request was refused; a dialect may write `code` in capitals, as a number or not."""

    message: str
    type: str
    param: str | None
    request_id: str
    code: str | int | None = None
    details: dict[str, str] = {}


class ErrorAnswer(msgspec.Struct):
    """The body of every refusal."""

    error: ErrorObject
