"""A payment room's machine rail in memory: channels and credentials, without any signature.

A credential is `<action>.<channel or payer>.<cumulative>.<challenge id>`, where the action is
`open`, `voucher`, `close` or `charge`. Amounts of credentials are base units of 1,000 nano-USD. It
checks what a gateway has to rely on: a challenge buys one delivery, a hold never exceeds what was
accepted, and nothing is concluded twice with another amount.
"""

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from turnpike.payment.v1 import machine_pb2 as pb
from turnpike.payment.v1.machine_pb2_grpc import MachinePaymentServiceServicer

BASE_NUSD: Final = 1_000
CHANNEL: Final = "0x" + "c4" * 32
PAYER: Final = "0x" + "ab" * 20


def _units(nusd: int) -> int:
    return -(-nusd // BASE_NUSD)


@dataclass(slots=True)
class Purse:
    """What one payer has: base units accepted, nano-USD spent and held by lease."""

    account_id: str
    channel_id: str = ""
    accepted: int = 0
    deposit: int = 1_000_000
    spent_nusd: int = 0
    leases: dict[str, int] = field(default_factory=dict)
    is_closed: bool = False

    @property
    def available_nusd(self) -> int:
        """What can still be held."""
        return self.accepted * BASE_NUSD - self.spent_nusd - sum(self.leases.values())


class FakeMachinePayments(MachinePaymentServiceServicer):
    """The fake; `calls` has every request, `wait` replaces the waiting for a voucher."""

    def __init__(self) -> None:
        self.purses: dict[str, Purse] = {}
        self.calls: list[Any] = []
        self.used: set[str] = set()
        self.terms: dict[str, pb.Terms] = {}
        self.concluded: dict[str, pb.ConcludeRequest] = {}
        self.changed = asyncio.Condition()
        self.wait: Callable[[pb.AwaitVoucherRequest], None] | None = None
        self.broken: dict[str, BaseException] = {}

    def of(self, kind: type[Any]) -> list[Any]:
        """Return the requests of one kind."""
        return [call for call in self.calls if isinstance(call, kind)]

    @property
    def channel(self) -> Purse:
        """The usual channel."""
        return self.purses[f"tempo:{CHANNEL}"]

    async def Challenge(self, request: pb.ChallengeRequest, context: Any) -> pb.ChallengeResponse:
        self._note(request)
        return pb.ChallengeResponse(refusal=self._refusal(request.terms))

    async def Authorize(self, request: pb.AuthorizeRequest, context: Any) -> pb.AuthorizeResponse:
        self._note(request)
        action, payer, cumulative, challenge = request.credential.split(".")
        if challenge in self.used or self.terms.get(challenge) != request.terms:
            return self._refused(request.terms, "invalid-challenge")
        purse = self._take(action, payer, int(cumulative))
        held = request.terms.hold_nusd if action == "charge" else request.terms.slice_nusd
        if purse.is_closed:
            return pb.AuthorizeResponse(refusal=_gone())
        if purse.available_nusd < held:
            return self._refused(request.terms, "session/insufficient-balance")
        self.used.add(challenge)
        lease_id = f"lease-{len(self.used)}"
        purse.leases[lease_id] = held
        return pb.AuthorizeResponse(
            admitted=pb.Admitted(
                account_id=purse.account_id,
                key_id=purse.account_id,
                lease_id=lease_id,
                granted_nusd=held,
                challenge_id=challenge,
                intent="charge" if action == "charge" else "session",
                channel_id=purse.channel_id,
                receipt=_encoded({"reference": "0xpaid"}) if action == "charge" else "",
            )
        )

    async def Extend(self, request: pb.ExtendRequest, context: Any) -> pb.ExtendResponse:
        self._note(request)
        purse = self._owner(request.lease_id)
        held = purse.leases[request.lease_id]
        if purse.is_closed:
            return pb.ExtendResponse(refusal=_gone())
        more = request.total_nusd - held
        if more > purse.available_nusd:
            required = purse.accepted + _units(more - purse.available_nusd)
            return pb.ExtendResponse(
                need=pb.NeedVoucher(
                    channel_id=purse.channel_id,
                    required_cumulative=str(required),
                    accepted_cumulative=str(purse.accepted),
                    deposit=str(purse.deposit),
                )
            )
        purse.leases[request.lease_id] = max(held, request.total_nusd)
        return pb.ExtendResponse(granted_nusd=purse.leases[request.lease_id])

    async def AwaitVoucher(
        self, request: pb.AwaitVoucherRequest, context: Any
    ) -> pb.AwaitVoucherResponse:
        self._note(request)
        purse = self.purses[f"tempo:{request.channel_id}"]
        if self.wait is not None:
            self.wait(request)

        def is_over() -> bool:
            return purse.is_closed or purse.accepted >= int(request.required_cumulative)

        if self.wait is None and not is_over():
            try:
                async with asyncio.timeout(request.wait_ms / 1000), self.changed:
                    await self.changed.wait_for(is_over)
            except TimeoutError:
                pass
        return pb.AwaitVoucherResponse(
            is_accepted=purse.accepted >= int(request.required_cumulative),
            is_closed=purse.is_closed,
        )

    async def Conclude(self, request: pb.ConcludeRequest, context: Any) -> pb.ConcludeResponse:
        self._note(request)
        before = self.concluded.setdefault(request.lease_id, request)
        assert before == request, "concluded twice with another amount"
        for purse in self.purses.values():
            if purse.leases.pop(request.lease_id, None) is not None:
                purse.spent_nusd += request.charge_nusd
        purse = next(iter(self.purses.values()))
        said = {
            "method": "tempo",
            "intent": "session",
            "status": "success",
            "timestamp": "2026-11-26T00:00:00Z",
            "reference": purse.channel_id,
            "challengeId": request.challenge_id,
            "channelId": purse.channel_id,
            "acceptedCumulative": str(purse.accepted),
            "spent": str(_units(purse.spent_nusd)),
            "units": request.unit_count,
        }
        return pb.ConcludeResponse(receipt=_encoded(said), receipt_json=json.dumps(said))

    async def Manage(self, request: pb.ManageRequest, context: Any) -> pb.ManageResponse:
        self._note(request)
        action, payer, cumulative, _ = request.credential.split(".")
        if action not in ("voucher", "close"):
            return pb.ManageResponse(refusal=_problem("malformed-credential", 402))
        if self.purses[f"tempo:{payer}"].is_closed:
            return pb.ManageResponse(refusal=_gone())
        async with self.changed:
            purse = self._take(action, payer, int(cumulative))
            self.changed.notify_all()
        return pb.ManageResponse(receipt=_encoded({"acceptedCumulative": str(purse.accepted)}))

    def _take(self, action: str, payer: str, cumulative: int) -> Purse:
        account_id = f"tempo:{payer}"
        channel_id = "" if action == "charge" else payer
        purse = self.purses.setdefault(account_id, Purse(account_id, channel_id))
        purse.accepted = max(purse.accepted, cumulative)
        purse.is_closed = purse.is_closed or action == "close"
        return purse

    def _owner(self, lease_id: str) -> Purse:
        return next(purse for purse in self.purses.values() if lease_id in purse.leases)

    def _refusal(
        self, terms: pb.Terms, problem: str = "payment-required", reason: str = "PAYMENT_REQUIRED"
    ) -> pb.PaymentRefusal:
        challenge_id = f"ch-{len(self.terms) + 1}"
        self.terms[challenge_id] = pb.Terms.FromString(terms.SerializeToString())
        request = _encoded({"amount": str(_units(terms.slice_nusd))})
        offers = [
            f'Payment id="{challenge_id}", realm="{terms.realm}", method="tempo",'
            f' intent="{intent}", request="{request}"'
            for intent in ("session", "charge")
        ]
        refusal = _problem(problem, 402, reason)
        refusal.www_authenticate.extend(offers)
        refusal.challenge_id = challenge_id
        refusal.extensions["requiredTopUp"] = "17"
        return refusal

    def _refused(self, terms: pb.Terms, problem: str) -> pb.AuthorizeResponse:
        return pb.AuthorizeResponse(refusal=self._refusal(terms, problem, "INVALID_PAYMENT"))

    def _note(self, request: Any) -> None:
        self.calls.append(request)
        failure = self.broken.get(type(request).__name__)
        if failure is not None:
            raise failure


def _problem(problem: str, status: int, reason: str = "INVALID_PAYMENT") -> pb.PaymentRefusal:
    return pb.PaymentRefusal(
        http_status=status, problem=problem, detail="Payment says no.", reason=reason
    )


def _gone() -> pb.PaymentRefusal:
    return _problem("session/channel-finalized", 410, "GONE")


def _encoded(said: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=")


def decoded(receipt: str) -> Any:
    """Return the JSON that a receipt's header value stands for."""
    return json.loads(base64.urlsafe_b64decode(receipt + "=" * (-len(receipt) % 4)))
