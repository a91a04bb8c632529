"""Machine payments that are off: every call is refused, and says how they are turned on."""

from typing import NoReturn

from google.protobuf.message import Message

from kit.errors import Reason, TurnpikeError
from turnpike.payment.v1.machine_pb2_grpc import MachinePaymentServiceServicer


class MachineOff(MachinePaymentServiceServicer):
    """Serves `turnpike.payment.v1.MachinePaymentService` where no chain is set."""

    async def Challenge(self, request: Message, context: object) -> NoReturn:
        raise _off()

    async def Authorize(self, request: Message, context: object) -> NoReturn:
        raise _off()

    async def Extend(self, request: Message, context: object) -> NoReturn:
        raise _off()

    async def AwaitVoucher(self, request: Message, context: object) -> NoReturn:
        raise _off()

    async def Conclude(self, request: Message, context: object) -> NoReturn:
        raise _off()

    async def Manage(self, request: Message, context: object) -> NoReturn:
        raise _off()


def _off() -> TurnpikeError:
    return TurnpikeError(
        Reason.PAYMENT_METHOD_UNSUPPORTED,
        "Machine payments are off; set payment.mpp.chain and payment.mpp.secrets.",
    )
