"""Auth's slots in memory, with the room's own arithmetic, and calls that go astray.

A call that is `deaf` never arrives, one that is `mute` arrives and its answer does not, one that is
`late` fails and arrives after the caller's next one.
"""

import asyncio
from collections.abc import Callable
from enum import Enum, auto

from google.protobuf.duration_pb2 import Duration

from kit.clock import ManualClock
from kit.errors import Reason, TurnpikeError
from kit.rpc.status import rpc_error
from services.auth.slots import Sightings, Sign, Slots, SlotsAsk, SlotTerms, divide
from turnpike.auth.v1 import auth_pb2


class Fault(Enum):
    """How a call goes astray."""

    NONE = auto()
    DEAF = auto()
    MUTE = auto()
    LATE = auto()


class SlotBook:
    """Whose slots are whose; what auth's store keeps."""

    def __init__(self, clock: ManualClock, *, limit: int, lease_s: float = 10.0) -> None:
        self.clock = clock
        self.limit = limit
        self.lease_s = lease_s
        self.beats: dict[str, int] = {}
        self.rows: dict[tuple[str, str], tuple[int, int]] = {}
        self.sightings = Sightings()
        self.recalled: list[str] = []
        self.asked: list[auth_pb2.LeaseSlotsRequest] = []
        self.said: list[auth_pb2.RenewHolderRequest] = []

    def bury(self) -> None:
        now_s = self.clock.monotonic_s()
        self.sightings.see({holder_id: self.sign(holder_id) for holder_id in self.beats}, now_s)
        for holder_id in self.sightings.dead(now_s):
            self.end(holder_id)

    def sign(self, holder_id: str) -> Sign:
        return Sign(self.beats[holder_id], round(self.lease_s * 1000))

    def end(self, holder_id: str) -> None:
        self.beats.pop(holder_id, None)
        self.rows = {at: row for at, row in self.rows.items() if at[1] != holder_id}

    def lease(self, request: auth_pb2.LeaseSlotsRequest) -> auth_pb2.LeaseSlotsResponse:
        self.asked.append(request)
        self.bury()
        if request.holder_id not in self.beats:
            return auth_pb2.LeaseSlotsResponse(is_lost=True)
        at = (request.key_id, request.holder_id)
        own, sequence = self.rows.get(at, (0, 0))
        others = sum(
            row[0] for place, row in self.rows.items() if place[0] == at[0] and place != at
        )
        slots = Slots(own, max(0, self.limit - others - own))
        if sequence <= request.sequence:
            ask = SlotsAsk(
                request.holder_id,
                request.sequence,
                request.kept_slot_count,
                request.needed_slot_count,
            )
            slots = divide(SlotTerms(self.limit, replicas=1), ask, own=own, others=others)
            self.rows[at] = (slots.held, request.sequence)
        if request.needed_slot_count and slots.held <= request.kept_slot_count:
            self.recalled.append(request.key_id)
        return auth_pb2.LeaseSlotsResponse(
            slot_count=slots.held, free_slot_count=slots.free, concurrent_requests=self.limit
        )

    def renew(self, request: auth_pb2.RenewHolderRequest) -> auth_pb2.RenewHolderResponse:
        self.said.append(request)
        self.bury()
        holder_id = request.holder_id
        if request.step == auth_pb2.RenewHolderRequest.STEP_END:
            self.end(holder_id)
        elif request.step == auth_pb2.RenewHolderRequest.STEP_BEGIN:
            self.beats.setdefault(holder_id, 0)
        if holder_id not in self.beats:
            return auth_pb2.RenewHolderResponse(is_lost=True)
        self.beats[holder_id] += 1
        self.sightings.note(holder_id, self.sign(holder_id), self.clock.monotonic_s())
        duration = Duration()
        duration.FromMilliseconds(round(self.lease_s * 1000))
        return auth_pb2.RenewHolderResponse(duration=duration)


class SlotAuth:
    """One gateway's way to the book, with its faults; a stub's calls."""

    def __init__(self, book: SlotBook) -> None:
        self.book = book
        self.fault = Fault.NONE
        self.before_answer: Callable[[], object] = lambda: None
        self._late: list[Callable[[], object]] = []

    async def LeaseSlots(
        self, request: auth_pb2.LeaseSlotsRequest, *, timeout: float
    ) -> auth_pb2.LeaseSlotsResponse:
        assert timeout > 0
        answer = auth_pb2.LeaseSlotsResponse()
        self._deliver(lambda: answer.CopyFrom(self.book.lease(request)))
        self.before_answer()
        await asyncio.sleep(0)
        return answer

    async def RenewHolder(
        self, request: auth_pb2.RenewHolderRequest, *, timeout: float
    ) -> auth_pb2.RenewHolderResponse:
        assert timeout > 0
        answer = auth_pb2.RenewHolderResponse()
        self._deliver(lambda: answer.CopyFrom(self.book.renew(request)))
        await asyncio.sleep(0)
        return answer

    def _deliver(self, call: Callable[[], object]) -> None:
        late, self._late = self._late, []
        if self.fault is Fault.LATE:
            self._late.append(call)
        elif self.fault is not Fault.DEAF:
            call()
        for each in late:
            each()
        if self.fault is not Fault.NONE:
            raise rpc_error(TurnpikeError(Reason.UNAVAILABLE, "Away."))
