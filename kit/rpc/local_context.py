"""The servicer's view of a call that never left the process."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import grpc
from grpc import aio


class LocalContext(aio.ServicerContext[Any, Any]):
    """Everything a servicer may ask of its context, without a socket behind it."""

    def __init__(self, *, metadata: aio.Metadata | None, deadline_s: float | None) -> None:
        self._metadata = metadata
        self._deadline_s = deadline_s
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._trailers = aio.Metadata()
        self.is_done = False

    async def abort(
        self,
        code: grpc.StatusCode,
        details: str = "",
        trailing_metadata: Sequence[tuple[str, str | bytes]] | aio.Metadata = (),
    ) -> NoReturn:
        """End the call with an error."""
        trailers = aio.Metadata(*trailing_metadata) if trailing_metadata else self._trailers
        raise aio.AioRpcError(code, aio.Metadata(), trailers, details=details)

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """End the call with a status."""
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    async def read(self) -> Any:  # noqa: ANN401 - gRPC's own signature
        """Refuse: only unary requests are served."""
        raise TypeError("A unary request has nothing more to read.")

    async def write(self, message: Any) -> None:  # noqa: ANN401 - gRPC's own signature
        """Refuse: servicers yield their answers."""
        raise TypeError(f"Yield a {type(message).__name__} instead of writing it.")

    async def send_initial_metadata(self, initial_metadata: Any) -> None:  # noqa: ANN401
        """Drop initial metadata: no caller of ours reads it."""
        del initial_metadata

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:  # noqa: ANN401
        """Remember what goes with the status."""
        self._trailers = aio.Metadata(*trailing_metadata)

    def trailing_metadata(self) -> aio.Metadata:
        """Return what goes with the status."""
        return self._trailers

    def invocation_metadata(self) -> aio.Metadata | None:
        """Return what the caller sent along."""
        return self._metadata

    def set_code(self, code: grpc.StatusCode) -> None:
        """Set the status of a unary call."""
        self._code = code

    def set_details(self, details: str) -> None:
        """Set the status text of a unary call."""
        self._details = details

    def code(self) -> grpc.StatusCode:
        """Return the status that was set; OK when none was."""
        return self._code or grpc.StatusCode.OK

    def details(self) -> str:
        """Return the status text that was set."""
        return self._details

    def check(self) -> None:
        """Raise the status that was set, if it is an error."""
        if self._code not in (None, grpc.StatusCode.OK):
            raise aio.AioRpcError(
                self.code(), aio.Metadata(), self._trailers, details=self._details
            )

    def set_compression(self, compression: grpc.Compression) -> None:
        """Ignore compression: nothing is sent."""
        del compression

    def disable_next_message_compression(self) -> None:
        """Ignore compression: nothing is sent."""

    def peer(self) -> str:
        """Return where the caller is."""
        return "local:"

    def peer_identities(self) -> None:
        """Return nothing: the process trusts itself."""

    def peer_identity_key(self) -> None:
        """Return nothing: the process trusts itself."""

    def auth_context(self) -> dict[str, list[bytes]]:
        """Return nothing: the process trusts itself."""
        return {}

    def time_remaining(self) -> float | None:  # type: ignore[override] # None means no deadline
        """Return seconds until the deadline."""
        if self._deadline_s is None:
            return None
        return max(0.0, self._deadline_s - asyncio.get_running_loop().time())

    def cancelled(self) -> bool:
        """Return False: a cancelled servicer sees the exception itself."""
        return False

    def done(self) -> bool:
        """Return whether the call has ended."""
        return self.is_done

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Refuse: use `finally` in the servicer."""
        raise TypeError(f"Use finally instead of {callback!r}.")
