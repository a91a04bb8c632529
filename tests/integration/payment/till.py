"""Machine payments on a real database over the fake chain, and a client that pays.

Requests reach the servicer itself; usage is settled by the payment store as in the running room.
"""

import itertools
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from sqlalchemy import Connection, select

from kit.bus.memory import MemoryBus
from services.payment.mpp.challenge import Challenge, read_challenges
from services.payment.mpp.credential import Credential, credential_value
from services.payment.mpp.receipts import read_receipt
from services.payment.mpp.room import open_machine_payments
from services.payment.mpp.servicer import MachineServicer
from services.payment.mpp.settings import MppSettings
from services.payment.mpp.store_channels import find
from services.payment.mpp.tables import chain_intents
from services.payment.store_engine import Transactions
from tests.fakes.tempo_chain import FakeTempo, chain_settings, open_tempo_chain
from tests.fakes.tempo_payer import Opening, TempoPayer
from tests.unit.payment.rig import Rig, open_rig, outcome
from turnpike.payment.v1 import machine_pb2 as pb

CONTEXT: Any = None  # the servicer never looks at its context
SECRET: Final = "a-secret-of-this-test"
REALM: Final = "api.test"
RESOURCE: Final = "POST /v1/chat/completions tiny-chat"
BASE: Final = 1_000
_LEASE_S: Final = 30.0


def terms(slice_nusd: int = 5_000_000, hold_nusd: int = 0, **changes: str) -> pb.Terms:
    """Return what a request is sold for; a slice is the whole of it by default."""
    named = {"realm": REALM, "resource": RESOURCE, **changes}
    return pb.Terms(**named, hold_nusd=hold_nusd or slice_nusd, slice_nusd=slice_nusd)


class KilledError(Exception):
    """The process is gone."""


@dataclass
class Killer:
    """Lets so many transactions commit, then none and no read any more; None: nothing happens."""

    left: int | None = None

    def count(self) -> None:
        """Count one that committed."""
        if self.left is not None:
            self.left -= 1

    def check(self) -> None:
        """Fail when the process is gone."""
        if self.left is not None and self.left <= 0:
            raise KilledError


class MortalTransactions:
    """The room's transactions, in a process that can be killed after each commit."""

    def __init__(self, inner: Transactions, killer: Killer) -> None:
        self._inner = inner
        self._killer = killer

    async def write(self, work: Callable[[Connection], Any]) -> Any:
        """Run a transaction; it may be the last one, and then nobody hears of it."""
        self._killer.check()
        answer = await self._inner.write(work)
        self._killer.count()
        self._killer.check()
        return answer

    async def read(self, work: Callable[[Connection], Any]) -> Any:
        """Read, while the process lives."""
        self._killer.check()
        return await self._inner.read(work)


@dataclass
class Till:
    """Open machine payments and everything a test turns to play with them."""

    rig: Rig
    node: FakeTempo
    bus: MemoryBus
    settings: MppSettings
    machine: MachineServicer
    registry: CollectorRegistry
    payer: TempoPayer = field(default_factory=TempoPayer)
    ids: Any = field(default_factory=lambda: itertools.count(1))

    async def offered(
        self, price: pb.Terms | None = None, *, hint: str = "", accept: str = ""
    ) -> list[Challenge]:
        """Return the challenges for a request without a credential."""
        request = pb.ChallengeRequest(
            terms=price or terms(), session_hint=hint, accept_payment=accept
        )
        answer = await self.machine.Challenge(request, CONTEXT)
        return challenges_of(answer.refusal)

    async def challenge(self, price: pb.Terms | None = None, *, hint: str = "") -> Challenge:
        """Return the challenge of a session."""
        return (await self.offered(price, hint=hint, accept="tempo/session"))[0]

    async def authorize(
        self, credential: str, price: pb.Terms | None = None, **fields: str
    ) -> pb.AuthorizeResponse:
        """Offer a credential for a request."""
        fields = {"request_id": f"request-{next(self.ids)}", "holder_id": "gateway", **fields}
        request = pb.AuthorizeRequest(terms=price or terms(), credential=credential, **fields)
        return await self.machine.Authorize(request, CONTEXT)

    async def manage(self, credential: str) -> pb.ManageResponse:
        """Offer a credential without content."""
        request = pb.ManageRequest(
            realm=REALM, credential=credential, request_id=f"manage-{next(self.ids)}"
        )
        return await self.machine.Manage(request, CONTEXT)

    async def admitted(self, credential: str, price: pb.Terms | None = None) -> pb.Admitted:
        """Offer a credential that has to be taken."""
        answer = await self.authorize(credential, price)
        assert answer.HasField("admitted"), answer.refusal
        return answer.admitted

    async def opened(
        self, deposit: int = 1_000_000, *, first: int = 5_000, price: pb.Terms | None = None
    ) -> tuple[Opening, pb.Admitted]:
        """Open a channel with a request that costs its first voucher at most."""
        opening = self.payer.open(deposit)
        credential = self.open_of(opening, await self.challenge(price), first)
        return opening, await self.admitted(credential, price)

    async def idle(self, deposit: int = 1_000_000, *, first: int = 5_000) -> Opening:
        """Open a channel whose first request was not run."""
        opening, admitted = await self.opened(deposit, first=first)
        await self.conclude(admitted, 0, run_id="")
        return opening

    async def conclude(
        self, admitted: pb.Admitted, charge_nusd: int, *, run_id: str = "run"
    ) -> pb.ConcludeResponse:
        """Say what a request cost."""
        request = pb.ConcludeRequest(
            lease_id=admitted.lease_id,
            run_id=run_id,
            charge_nusd=charge_nusd,
            challenge_id=admitted.challenge_id,
            unit_count=1,
        )
        return await self.machine.Conclude(request, CONTEXT)

    async def settle(self, admitted: pb.Admitted, charge_nusd: int, *, run_id: str = "run") -> None:
        """Deliver the usage event of a request."""
        event = outcome(
            run_id,
            admitted.lease_id,
            hold_nusd=max(charge_nusd, admitted.granted_nusd),
            charge_nusd=charge_nusd,
            account_id=admitted.account_id,
        )
        await self.rig.settle(event)

    async def run(self, admitted: pb.Admitted, charge_nusd: int, *, run_id: str) -> dict[str, Any]:
        """Run a request to its end and return its receipt."""
        answer = await self.conclude(admitted, charge_nusd, run_id=run_id)
        await self.settle(admitted, charge_nusd, run_id=run_id)
        return read_receipt(answer.receipt)

    async def extend(self, admitted: pb.Admitted, total_nusd: int) -> pb.ExtendResponse:
        """Ask for more hold."""
        request = pb.ExtendRequest(lease_id=admitted.lease_id, total_nusd=total_nusd)
        return await self.machine.Extend(request, CONTEXT)

    async def channel(self, channel_id: str) -> Any:
        """Return a channel as it is stored."""
        return await self.rig.transactions.read(lambda connection: find(connection, channel_id))

    async def intents(self) -> list[tuple[str, str]]:
        """Return kind and state of the payee's transactions."""
        query = select(chain_intents.c.kind, chain_intents.c.state)
        return await self.rig.transactions.read(
            lambda connection: [tuple(row) for row in connection.execute(query)]
        )

    async def is_proven(self) -> bool:
        """Return whether the books and the channels add up; show what does not."""
        answer = await self.rig.verify()
        assert not list(answer.findings)
        return answer.is_clean

    # What the client signs.

    def open_of(
        self, opening: Opening, challenge: Challenge, cumulative: int, **changes: Any
    ) -> str:
        """Return the credential that opens a channel."""
        payload = {
            "action": "open",
            "type": "transaction",
            "channelId": opening.channel_id,
            "transaction": opening.raw,
            "signature": self.payer.voucher(opening.channel_id, cumulative),
            "descriptor": opening.descriptor.wire(),
            "cumulativeAmount": str(cumulative),
            **changes,
        }
        return credential_of(challenge, payload)

    def voucher_of(
        self,
        opening: Opening,
        challenge: Challenge,
        cumulative: int,
        *,
        action: str = "voucher",
        source: str = "",
        **changes: Any,
    ) -> str:
        """Return the credential that raises what is accepted, or closes."""
        payload = {
            "action": action,
            "channelId": opening.channel_id,
            "signature": self.payer.voucher(opening.channel_id, cumulative),
            "descriptor": opening.descriptor.wire(),
            "cumulativeAmount": str(cumulative),
            **changes,
        }
        return credential_of(challenge, payload, source)

    def close_of(self, opening: Opening, challenge: Challenge, cumulative: int) -> str:
        """Return the credential that asks for a close."""
        return self.voucher_of(opening, challenge, cumulative, action="close")

    def top_up_of(
        self, opening: Opening, challenge: Challenge, amount: int, *, raw: str = ""
    ) -> str:
        """Return the credential that adds to the deposit."""
        payload = {
            "action": "topUp",
            "type": "transaction",
            "channelId": opening.channel_id,
            "transaction": raw or self.payer.top_up(opening.descriptor, amount),
            "descriptor": opening.descriptor.wire(),
            "additionalDeposit": str(amount),
        }
        return credential_of(challenge, payload)


def challenges_of(refusal: pb.PaymentRefusal) -> list[Challenge]:
    """Return the challenges of a refusal."""
    return [each for value in refusal.www_authenticate for each in read_challenges(value)]


def credential_of(challenge: Challenge, payload: Mapping[str, Any], source: str = "") -> str:
    """Return a credential as it is sent."""
    return credential_value(Credential(challenge=challenge, payload=payload, source=source))


def mpp_settings(url: str, **changes: Any) -> MppSettings:
    """Return settings for the fake chain, with short waits and rounds that follow at once."""
    settings: dict[str, Any] = {
        "chain": chain_settings(url),
        "secrets": (SecretStr(SECRET),),
        "deposit_min_base_units": 1_000,
        "poll_s": 0.02,
        "tick_s": 0.02,
        "close_wait_s": 2.0,
        **changes,
    }
    return MppSettings(**settings)


@asynccontextmanager
async def open_till(url: str, **changes: Any) -> AsyncIterator[Till]:
    """Open machine payments on an empty database, over a chain of their own."""
    async with open_tempo_chain() as node, open_rig(url) as rig:
        rig.clock.advance(time.time() - rig.clock.unix_ms() / 1000)
        async with reopened(rig, node, mpp_settings(node.url, **changes)) as till:
            yield till


@asynccontextmanager
async def reopened(
    rig: Rig,
    node: FakeTempo,
    settings: MppSettings,
    *,
    killer: Killer | None = None,
    bus: MemoryBus | None = None,
) -> AsyncIterator[Till]:
    """Open machine payments on what an earlier process left; each is a replica."""
    bus, registry = bus or MemoryBus(), CollectorRegistry()
    transactions: Any = MortalTransactions(rig.transactions, killer or Killer())
    async with open_machine_payments(
        settings,
        transactions=transactions,
        lease_s=_LEASE_S,
        bus=bus,
        clock=rig.clock,
        registry=registry,
    ) as machine:
        yield Till(rig, node, bus, settings, machine, registry)
