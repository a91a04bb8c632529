"""Stripe over real HTTP, as far as Turnpike asks it: customers, Checkout, intents and refunds.

Idempotency keys replay as Stripe's do, parameters that Stripe does not know are refused, and what
goes wrong can be scripted. Stripe's own SDK reads the answers, in every test that uses this.
Source: docs.stripe.com/api, "Idempotent requests" and the objects named there (API 2026-10-28).
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from aiohttp import web

from services.payment.stripe.signature import signature_header

API_KEY: Final = "sk_test_canary_4711"
SECRET: Final = "whsec_canary_4712"
CREATED_S: Final = 1_760_000_000
_KNOWN: Final = {
    "customers": {"metadata"},
    "payment_intents": {
        *("amount", "currency", "customer", "payment_method", "automatic_payment_methods"),
        *("off_session", "confirm", "metadata"),
    },
    "refunds": {"payment_intent", "amount"},
    "sessions": {
        *("mode", "customer", "client_reference_id", "metadata", "allowed_payment_method_types"),
        *("payment_intent_data", "line_items", "success_url", "cancel_url"),
        "adaptive_pricing",
    },
}
Json = dict[str, Any]


@dataclass
class StripeServer:
    """A Stripe in memory.

    `faults` are used up by the next creations, in order. `hang` does it and never answers, `drop`
    does it and breaks the connection, `error` does it and answers 500; `refuse` and `conflict`
    answer 503 and 409 and do nothing. `processing` leaves a payment under way, `decline` declines
    it, and an empty one goes well.
    """

    url: str = ""
    faults: deque[str] = field(default_factory=deque)
    customers: dict[str, Json] = field(default_factory=dict)
    intents: dict[str, Json] = field(default_factory=dict)
    refunds: dict[str, Json] = field(default_factory=dict)
    sessions: dict[str, Json] = field(default_factory=dict)
    seen: list[tuple[str, str]] = field(default_factory=list)
    declined_cards: set[str] = field(default_factory=set)
    _kept: dict[str, tuple[Json, int, Json]] = field(default_factory=dict)
    _ids: Iterator[int] = field(default_factory=lambda: count(1))

    def pay_session(self, session_id: str, *, card: str = "pm_card") -> tuple[Json, Json]:
        """Pay a session as its owner would; return it and its intent."""
        session = self.sessions[session_id]
        data = session.pop("payment_intent_data")
        intent = self._intent(
            amount=session["amount_total"],
            customer=session["customer"],
            payment_method=card,
            metadata=data["metadata"],
            setup_future_usage=data["setup_future_usage"],
        )
        session |= {
            "payment_status": "paid",
            "status": "complete",
            "payment_intent": intent["id"],
        }
        return session, intent

    def succeed(self, intent_id: str) -> Json:
        """Let a payment that is under way succeed."""
        intent = self.intents[intent_id]
        intent |= {"status": "succeeded", "amount_received": intent["amount"]}
        return intent

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request of the API."""
        self.seen.append((request.method, request.path))
        if request.headers.get("Authorization") != f"Bearer {API_KEY}":
            return _error(401, "invalid_request_error", "api_key")
        noun = request.path.rstrip("/").rpartition("/")[2]
        if request.method == "GET":
            return self._read(noun, request)
        asked = unflattened(dict(await request.post()))
        if unknown := asked.keys() - _KNOWN.get(noun, set()):
            return _error(400, "invalid_request_error", "parameter_unknown", param=min(unknown))
        answer = await self._create(noun, asked, request.headers.get("Idempotency-Key", ""))
        if answer is None:
            assert request.transport is not None
            request.transport.abort()
        return answer or web.Response()

    async def _create(self, noun: str, asked: Json, key: str) -> web.Response | None:
        """Make something once by its key; None means that the connection breaks."""
        if key in self._kept:
            first, status, answer = self._kept[key]
            if first != asked:
                return _error(400, "idempotency_error", "")
            headers = {"Idempotent-Replayed": "true"}
            return web.json_response(answer, status=status, headers=headers)
        fault = self.faults.popleft() if self.faults else ""
        if fault in {"refuse", "conflict"}:
            status = 503 if fault == "refuse" else 409
            return _error(status, "api_error", "")
        status, answer = self._make(noun, asked, fault)
        self._kept[key] = (asked, status, json.loads(json.dumps(answer)))
        if fault == "hang":
            await asyncio.sleep(3600)
        if fault == "drop":
            return None
        if fault == "error":
            return _error(500, "api_error", "")
        return web.json_response(answer, status=status)

    def _read(self, noun: str, request: web.Request) -> web.Response:
        if noun == "payment_intents":
            customer = request.query.get("customer")
            found = [each for each in self.intents.values() if each["customer"] == customer]
            listed = {"object": "list", "data": found[::-1], "has_more": False, "url": request.path}
            return web.json_response(listed)
        if noun in self.intents:
            return web.json_response(self.intents[noun])
        return _error(404, "invalid_request_error", "resource_missing")

    def _make(self, noun: str, asked: Json, fault: str) -> tuple[int, Json]:
        if noun == "customers":
            made = {"id": f"cus_{next(self._ids)}", "object": "customer", **asked}
            self.customers[made["id"]] = made
            return 200, made
        if noun == "sessions":
            return 200, self._session(asked)
        if noun == "refunds":
            return self._refund(asked)
        return self._charge(asked, fault)

    def _session(self, asked: Json) -> Json:
        (line,) = asked["line_items"]
        price = line["price_data"]
        name = f"cs_{next(self._ids)}"
        made = {
            **asked,
            "id": name,
            "object": "checkout.session",
            "url": f"https://checkout.stripe.com/c/pay/{name}",
            "amount_total": int(price["unit_amount"]) * int(line["quantity"]),
            "currency": price["currency"],
            "payment_status": "unpaid",
            "payment_intent": None,
        }
        self.sessions[name] = made
        return made

    def _charge(self, asked: Json, fault: str) -> tuple[int, Json]:
        assert "true" == asked["off_session"] == asked["confirm"]
        card = asked["payment_method"]
        made = self._intent(
            amount=int(asked["amount"]),
            customer=asked["customer"],
            payment_method=card,
            metadata=asked["metadata"],
        )
        if fault == "processing":
            made |= {"status": "processing", "amount_received": 0}
        if fault != "decline" and card not in self.declined_cards:
            return 200, made
        failure = {"type": "card_error", "code": "card_declined", "decline_code": "do_not_honor"}
        made |= {
            "status": "requires_payment_method",
            "amount_received": 0,
            "last_payment_error": failure,
        }
        return 402, {"error": {**failure, "message": "Declined.", "payment_intent": made}}

    def _refund(self, asked: Json) -> tuple[int, Json]:
        intent = self.intents[asked["payment_intent"]]
        amount = int(asked["amount"])
        left = intent["amount_received"] - intent["amount_refunded"]
        if amount > left:
            failure = {"type": "invalid_request_error", "code": "charge_already_refunded"}
            return 400, {"error": {**failure, "message": "Too much."}}
        intent["amount_refunded"] += amount
        made = {
            "id": f"re_{next(self._ids)}",
            "object": "refund",
            "amount": amount,
            "payment_intent": intent["id"],
            "status": "succeeded",
        }
        self.refunds[made["id"]] = made
        return 200, made

    def _intent(self, **fields: Any) -> Json:
        made = {
            "id": f"pi_{next(self._ids)}",
            "object": "payment_intent",
            "created": CREATED_S,
            "currency": "usd",
            "status": "succeeded",
            "amount_received": fields["amount"],
            "amount_refunded": 0,
            **fields,
        }
        self.intents[made["id"]] = made
        return made


def event(kind: str, about: Json, *, event_id: str, created_s: int = CREATED_S) -> bytes:
    """Return the body of a webhook."""
    found = {
        "id": event_id,
        "object": "event",
        "type": kind,
        "created": created_s,
        "data": {"object": about},
    }
    return json.dumps(found, indent=2).encode()


def signed(body: bytes, *, unix_s: int, secret: str = SECRET) -> str:
    """Return the signature header of a webhook."""
    return signature_header(body, secret, unix_s=unix_s)


def unflattened(form: Json) -> Json:
    """Return form fields such as `a[b][0]` as what they were made of."""
    tree: Json = {}
    for name, value in form.items():
        head, *steps = name.replace("]", "").split("[")
        place, last = tree, head
        for step in steps:
            place, last = place.setdefault(last, {}), step
        place[last] = value
    found: Json = _listed(tree)
    return found


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {name: _listed(each) for name, each in value.items()}
    return [*inner.values()] if inner and all(name.isdecimal() for name in inner) else inner


def _error(status: int, kind: str, code: str, **more: str) -> web.Response:
    error = {"type": kind, "message": "It was refused.", "code": code, **more}
    return web.json_response({"error": error}, status=status)


@asynccontextmanager
async def open_stripe_server() -> AsyncIterator[StripeServer]:
    """Run a Stripe on a free port."""
    stripe = StripeServer()
    runner = web.ServerRunner(web.Server(stripe.answer), shutdown_timeout=0.1)  # type: ignore[arg-type]
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        stripe.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield stripe
    finally:
        await runner.cleanup()
