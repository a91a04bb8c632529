"""A TCP relay in front of a real server: it can be cut off, fall silent, and spoil an answer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

CHUNK_BYTES = 65_536


def _nothing() -> bytes | None:
    return None


class Relay:
    """One address that leads to another server; `connection_count` is how many were accepted.

    `spoil` is asked whenever the server has sent something: None passes it on, other bytes go in
    its place, and no bytes end the connection.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self.connection_count = 0
        self.port = 0
        self.spoil: Callable[[], bytes | None] = _nothing

    @property
    def address(self) -> str:
        """Host and port that it listens at."""
        return f"127.0.0.1:{self.port}"

    async def open(self) -> None:
        """Listen, at the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Break every connection and take no more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hush(self) -> None:
        """Pass nothing on, in either direction."""
        self._flows.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connection_count += 1
        with suppress(OSError, asyncio.CancelledError):
            try:
                there, back = await asyncio.open_connection(*self._target)
                try:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self._pass(reader, back, _nothing))
                        group.create_task(self._pass(there, writer, self._spoilt))
                except ExceptionGroup:
                    pass
                finally:
                    back.transport.abort()
            finally:
                writer.transport.abort()
                self._tasks.discard(task)

    def _spoilt(self) -> bytes | None:
        return self.spoil()

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        spoil: Callable[[], bytes | None],
    ) -> None:
        while data := await reader.read(CHUNK_BYTES):
            await self._flows.wait()
            spoilt = spoil()
            if spoilt == b"":
                raise ConnectionResetError
            writer.write(data if spoilt is None else spoilt)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()


@asynccontextmanager
async def open_relay(target: str) -> AsyncIterator[Relay]:
    """Open a relay to a server."""
    relay = Relay(target)
    await relay.open()
    try:
        yield relay
    finally:
        await relay.cut()
