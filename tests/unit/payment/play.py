"""Random traffic for the books: turns of integers, played against a rig."""

import random
from typing import TypeAlias

from services.payment.batch import Parcel
from services.payment.ledger import available
from tests.unit.payment.rig import Rig, checkpoint, costly, intent, outcome, refunded, shared

Turn: TypeAlias = tuple[int, int, int, int]

_ACCOUNTS = ("a", "b")


class _Player:
    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.leases: list[tuple[str, str]] = []
        self.requests: list[tuple[str, str, str, int]] = []
        self.waiting: list[Parcel] = []
        self.delivered: list[Parcel] = []

    async def turn(self, turn: Turn) -> None:
        action = _ACTIONS[turn[0] % len(_ACTIONS)]
        await action(self, *turn[1:])

    async def credit(self, which: int, amount: int, _: int) -> None:
        await self.rig.credit(_ACCOUNTS[which % 2], 1 + amount)

    async def lease(self, which: int, need: int, want: int) -> None:
        account_id = _ACCOUNTS[which % 2]
        answer = await self.rig.store.lease(self.rig.terms(account_id, 1 + need, want))
        if isinstance(answer, tuple):
            self.leases.append((answer[0], account_id))

    async def give_back(self, which: int, amount: int, _: int) -> None:
        if self.leases:
            lease_id, _account = self.leases[which % len(self.leases)]
            await self.rig.give_back(lease_id, amount)

    async def begin(self, which: int, hold: int, _: int) -> None:
        if self.leases:
            lease_id, account_id = self.leases[which % len(self.leases)]
            request = (f"r{len(self.requests):04d}", lease_id, account_id, hold)
            self.requests.append(request)
            self.waiting.append(self.rig.parcel(intent(*request[:2], hold, account_id)))

    async def keep(self, which: int, number: int, _: int) -> None:
        if self.requests:
            request_id, lease_id, account_id, hold = self.requests[which % len(self.requests)]
            event = checkpoint(request_id, lease_id, hold, number)
            event.account_id = account_id
            self.waiting.append(self.rig.parcel(event))

    async def end(self, which: int, charge: int, _: int) -> None:
        if self.requests:
            request_id, lease_id, account_id, hold = self.requests[which % len(self.requests)]
            event = outcome(
                request_id, lease_id, hold_nusd=hold, charge_nusd=charge, account_id=account_id
            )
            self.waiting.append(self.rig.parcel(event))

    async def refund(self, which: int, charge: int, _: int) -> None:
        if self.requests:
            request_id, lease_id, account_id, hold = self.requests[which % len(self.requests)]
            event = refunded(
                request_id, lease_id, hold_nusd=hold, charge_nusd=charge, account_id=account_id
            )
            self.waiting.append(self.rig.parcel(event))

    async def share(self, which: int, charge: int, fee: int) -> None:
        await self.end(which, charge, 0)
        if self.requests:
            shared(self.waiting[-1].batch.events[0], fee_bps=fee)  # type: ignore[union-attr]

    async def buy(self, which: int, charge: int, cost: int) -> None:
        await (self.end if cost % 2 else self.refund)(which, charge, 0)
        if self.requests:
            event = self.waiting[-1].batch.events[0]  # type: ignore[union-attr]
            costly(event, cost, supplier_id="acme" if cost % 3 else "")

    async def give(self, which: int, amount: int, ends: int) -> None:
        end = self.rig.clock.unix_ms() + 1_000 * ends if ends % 2 else 0
        await self.rig.give(_ACCOUNTS[which % 2], 1 + amount, ends_at_unix_ms=end)

    async def deliver(self, which: int, number: int, _: int) -> None:
        chosen = [
            self.waiting.pop(which % len(self.waiting))
            for _turn in range(1 + number % 3)
            if self.waiting
        ]
        await self._hand_over(chosen)

    async def redeliver(self, which: int, _number: int, _: int) -> None:
        if self.delivered:
            await self._hand_over([self.delivered[which % len(self.delivered)]])

    async def sweep(self, which: int, _number: int, _: int) -> None:
        self.rig.clock.advance(which)
        await self._hand_over([self.rig.parcel()])
        await self.rig.store.sweep()

    async def _hand_over(self, parcels: list[Parcel]) -> None:
        if parcels:
            await self.rig.deliver(*parcels)
            self.delivered += parcels


_ACTIONS = (
    _Player.credit,
    _Player.lease,
    _Player.lease,
    _Player.give_back,
    _Player.begin,
    _Player.begin,
    _Player.keep,
    _Player.end,
    _Player.end,
    _Player.refund,
    _Player.deliver,
    _Player.deliver,
    _Player.deliver,
    _Player.redeliver,
    _Player.sweep,
    _Player.share,
    _Player.buy,
    _Player.give,
)


def random_turns(source: random.Random, *, count: int) -> list[Turn]:
    """Return turns drawn from a seeded source."""
    return [
        (
            source.randrange(len(_ACTIONS)),
            source.randrange(50),
            source.randrange(300),
            source.randrange(300),
        )
        for _ in range(count)
    ]


async def play(rig: Rig, turns: list[Turn]) -> list[Parcel]:
    """Play turns, deliver what is left, and return every delivery that was made."""
    player = _Player(rig)
    await rig.credit("a", 500)
    for turn in turns:
        await player.turn(turn)
        balances = await rig.balances()
        assert balances[available("a")] >= 0
    while player.waiting:
        await player.deliver(0, 2, 0)
    return player.delivered
