"""A payment room in one class, for tests of who draws on it: it grants, takes back and counts."""

import asyncio
from collections.abc import Callable

from google.protobuf.duration_pb2 import Duration

from kit.errors import Reason, TurnpikeError
from kit.rpc.status import rpc_error
from turnpike.payment.v1 import payment_pb2


def need_only(request: payment_pb2.LeaseCreditRequest, _available_nusd: int) -> int:
    """Grant what is needed, as payment does near the limit."""
    return request.need_nusd


def as_wanted(request: payment_pb2.LeaseCreditRequest, available_nusd: int) -> int:
    """Grant what is wanted, as payment does while there is plenty."""
    return min(max(request.need_nusd, request.want_nusd), available_nusd)


class Ledger:
    """One account with some money; `is_down` makes every call fail."""

    def __init__(
        self,
        available_nusd: int,
        *,
        grants: Callable[[payment_pb2.LeaseCreditRequest, int], int] = as_wanted,
        lease_s: float = 60.0,
    ) -> None:
        self.available_nusd = available_nusd
        self.granted_nusd = 0
        self.returned_nusd = 0
        self.requests: list[payment_pb2.LeaseCreditRequest] = []
        self.returns: list[payment_pb2.ReturnCreditRequest] = []
        self.is_down = False
        self.is_open = asyncio.Event()
        self.is_open.set()
        self._grants = grants
        self._lease_s = lease_s

    async def LeaseCredit(
        self, request: payment_pb2.LeaseCreditRequest, *, timeout: float
    ) -> payment_pb2.LeaseCreditResponse:
        """Grant a lease or refuse."""
        assert timeout > 0
        self.requests.append(request)
        await asyncio.sleep(0)
        await self.is_open.wait()
        self._check()
        if request.need_nusd > self.available_nusd:
            raise rpc_error(
                TurnpikeError(
                    Reason.INSUFFICIENT_QUOTA,
                    f"Balance is {self.available_nusd}; {request.need_nusd} needed.",
                    param="account",
                )
            )
        granted_nusd = self._grants(request, self.available_nusd)
        self.available_nusd -= granted_nusd
        self.granted_nusd += granted_nusd
        duration = Duration()
        duration.FromMilliseconds(round(self._lease_s * 1000))
        return payment_pb2.LeaseCreditResponse(
            lease_id=f"lease-{len(self.requests)}", granted_nusd=granted_nusd, duration=duration
        )

    async def ReturnCredit(
        self, request: payment_pb2.ReturnCreditRequest, *, timeout: float
    ) -> payment_pb2.ReturnCreditResponse:
        """Take back; what cannot be taken back now is lost to the caller."""
        assert timeout > 0
        self.returns.append(request)
        self.returned_nusd += request.undrawn_nusd
        await asyncio.sleep(0)
        self._check()
        self.available_nusd += request.undrawn_nusd
        return payment_pb2.ReturnCreditResponse(released_nusd=request.undrawn_nusd)

    def _check(self) -> None:
        if self.is_down:
            raise rpc_error(TurnpikeError(Reason.UNAVAILABLE, "Away."))
