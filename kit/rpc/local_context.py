"""The servicer's view of a call that never left the process."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeAlias

import grpc
from grpc import aio

_Pairs: TypeAlias = tuple[tuple[str, str | bytes], ...]


class LocalContext(aio.ServicerContext[Any, Any]):
    """Everything a servicer may ask of its context, without a socket behind it."""

    def __init__(self, *, metadata: Any, timeout_s: float | None) -> None:  # noqa: ANN401 - gRPC's metadata forms
        self.deadline_s = (
            None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        )
        self.is_done = False
        self._metadata = metadata
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._trailers: _Pairs = ()

    @property
    def has_failed(self) -> bool:
        """Whether an error was set as the status."""
        return self._code is not None and self._code is not grpc.StatusCode.OK

    def status(self) -> aio.AioRpcError:
        """Return the status that was set, as the caller catches it."""
        return aio.AioRpcError(
            self.code(), aio.Metadata(), aio.Metadata(*self._trailers), details=self._details
        )

    async def abort(
        self,
        code: grpc.StatusCode,
        details: str = "",
        trailing_metadata: Sequence[tuple[str, str | bytes]] | aio.Metadata = (),
    ) -> NoReturn:
        """End the call with an error.

        Raises:
            AbortError: Always; the channel turns it into the status.
        """
        self._code = code
        self._details = details or self._details
        self._trailers = tuple(trailing_metadata) or self._trailers
        raise aio.AbortError("Locally aborted.")

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
        self._trailers = tuple(trailing_metadata)

    def trailing_metadata(self) -> Any:  # noqa: ANN401 - pairs, as over a socket
        """Return what goes with the status."""
        return self._trailers

    def invocation_metadata(self) -> Any:  # noqa: ANN401 - pairs, as over a socket
        """Return what the caller sent along."""
        return tuple(self._metadata or ())

    def set_code(self, code: grpc.StatusCode) -> None:
        """Set the status that the call ends with."""
        self._code = code

    def set_details(self, details: str) -> None:
        """Set the text of the status that the call ends with."""
        self._details = details

    def code(self) -> grpc.StatusCode:
        """Return the status that was set; OK when none was."""
        return self._code or grpc.StatusCode.OK

    def details(self) -> str:
        """Return the status text that was set."""
        return self._details

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
        if self.deadline_s is None:
            return None
        return max(0.0, self.deadline_s - asyncio.get_running_loop().time())

    def cancelled(self) -> bool:
        """Return False: a cancelled servicer sees the exception itself."""
        return False

    def done(self) -> bool:
        """Return whether the call has ended."""
        return self.is_done

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Refuse: use `finally` in the servicer."""
        raise TypeError(f"Use finally instead of {callback!r}.")
