"""One lasting connection to NATS: it is made anew whenever it breaks, with what was listened to.

nats-py's own reconnect is off, because it can end for good or wait for ever on a peer that does
not read. Nothing is queued while NATS is away: what cannot be sent now is refused.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

import structlog
from nats import errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from kit.bus.nats_login import read_nats_login
from kit.bus.port import BusUnavailableError

_log = structlog.get_logger("kit.bus")

PENDING_BYTES_MAX: Final = 2 * 1024 * 1024
_RECONNECT_WAIT_S: Final = 0.05
_RECONNECT_WAIT_MAX_S: Final = 2.0
_PING_INTERVAL_S: Final = 2
_PINGS_OUTSTANDING_MAX: Final = 2
_LOOK_S: Final = 0.5
_CLOSE_S: Final = 1.0
_LOG_EVERY_S: Final = 10.0
_NOBODY: Final = "503"


@dataclass(frozen=True, slots=True)
class NatsAddress:
    """Where and as whom: `urls` of one cluster, `credentials` a file of one user."""

    urls: tuple[str, ...]
    name: str
    credentials: Path | None = None
    connect_timeout_s: float = 2.0


@dataclass(slots=True, eq=False)
class _Listener:
    subject: str
    on_message: Callable[[Msg], None]
    on_lost: Callable[[], None]
    client: Client | None = None
    subscription: Subscription | None = None


class QuietLog:
    """Warnings, each event at most once in ten seconds; says how many were kept back."""

    def __init__(self) -> None:
        self._next_s: dict[str, float] = {}
        self._kept_back: dict[str, int] = {}

    def warning(self, event: str, **fields: object) -> None:
        """Log, or only count."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._next_s.get(event, 0.0):
            self._kept_back[event] = self._kept_back.get(event, 0) + 1
            return
        self._next_s[event] = now_s + _LOG_EVERY_S
        _log.warning(event, kept_back_count=self._kept_back.pop(event, 0), **fields)


class NatsLink:
    """Sends, asks and listens over a connection that `run` keeps up."""

    def __init__(self, address: NatsAddress) -> None:
        self._address = address
        self._client: Client | None = None
        self._connected = asyncio.Event()
        self._listeners: set[_Listener] = set()
        self._answers: dict[str, asyncio.Future[Msg]] = {}
        self._tokens = count(1)
        self._inbox = f"_INBOX.{secrets.token_hex(11)}"
        self._listeners.add(_Listener(f"{self._inbox}.*", self._resolve, self._fail_answers))
        self.log = QuietLog()

    @property
    def is_connected(self) -> bool:
        """Whether NATS can be reached right now."""
        return self._connected.is_set() and self._client is not None and self._client.is_connected

    async def wait_connected(self, wait_s: float) -> bool:
        """Wait for the connection and return whether it is there."""
        if not self._connected.is_set() and wait_s > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._connected.wait()
        return self.is_connected

    def new_inbox(self) -> str:
        """Return a subject prefix that nobody else uses."""
        return f"{self._inbox}.{next(self._tokens)}"

    async def send(
        self, subject: str, data: bytes, *, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Hand a message to the connection; it does not wait for the network.

        Raises:
            BusUnavailableError: NATS is away, does not read, or takes no such message.
        """
        client = self._client
        if client is None or not client.is_connected:
            raise BusUnavailableError("NATS is not connected.")
        if client.pending_data_size > PENDING_BYTES_MAX:
            raise BusUnavailableError("NATS does not read; the send buffer is full.")
        if (size := len(data) + _header_bytes(headers)) > client.max_payload:
            raise BusUnavailableError(f"Message is {size} bytes; NATS takes {client.max_payload}.")
        try:
            await client.publish(subject, data, reply, headers)
        except (errors.Error, OSError) as error:
            raise BusUnavailableError(f"NATS refused the message: {error}") from error

    async def request(
        self, subject: str, data: bytes, *, timeout_s: float, headers: dict[str, str] | None = None
    ) -> Msg:
        """Send a question and return its answer; waits for a connection within the same time.

        Raises:
            BusUnavailableError: Nobody answered in time, or the connection broke.
        """
        reply = self.new_inbox()
        answer = asyncio.get_running_loop().create_future()
        self._answers[reply] = answer
        try:
            async with asyncio.timeout(timeout_s):
                await self._connected.wait()
                await self.send(subject, data, reply=reply, headers=headers)
                message: Msg = await answer
        except TimeoutError:
            raise BusUnavailableError(f"NATS did not answer within {timeout_s:g} s.") from None
        finally:
            self._answers.pop(reply, None)
        if status_of(message) == _NOBODY:
            raise BusUnavailableError(f"Nobody answers on {subject}.")
        return message

    @asynccontextmanager
    async def listening(
        self, subject: str, on_message: Callable[[Msg], None], *, on_lost: Callable[[], None]
    ) -> AsyncIterator[None]:
        """Call `on_message` for every message on a subject, over reconnects too.

        When NATS is there, it knows of the subscription before the body starts. `on_lost` is
        called each time the connection broke.
        """
        listener = _Listener(subject, on_message, on_lost)
        self._listeners.add(listener)
        try:
            if (client := self._client) is not None:
                await self._attach(listener, client)
                await self._round_trip(client)
            yield
        finally:
            self._listeners.discard(listener)
            await self._detach(listener)

    async def run(self) -> None:
        """Keep the connection up until cancelled; what was sent before goes out first."""
        wait_s = _RECONNECT_WAIT_S
        while True:
            client, lost = Client(), asyncio.Event()
            try:
                if await self._connect(client, lost):
                    wait_s = _RECONNECT_WAIT_S
                    await self._serve(client, lost)
            finally:
                self._lose()
                await self._end(client)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, _RECONNECT_WAIT_MAX_S)

    async def _connect(self, client: Client, lost: asyncio.Event) -> bool:
        async def on_error(error: Exception) -> None:
            self.log.warning("nats_error", error=type(error).__name__, reason=str(error))

        async def on_closed() -> None:
            lost.set()

        try:
            async with asyncio.timeout(self._address.connect_timeout_s):
                await client.connect(
                    error_cb=on_error, closed_cb=on_closed, **await self._options(client)
                )
        except Exception as error:  # noqa: BLE001 - whatever went wrong, it is tried again
            self.log.warning("nats_connect_failed", error=type(error).__name__, reason=str(error))
            return False
        return client.is_connected

    async def _options(self, client: Client) -> dict[str, Any]:
        options: dict[str, Any] = {
            "servers": list(self._address.urls),
            "name": self._address.name,
            "connect_timeout": self._address.connect_timeout_s,
            "allow_reconnect": False,
            "max_reconnect_attempts": 1,
            "reconnect_time_wait": _RECONNECT_WAIT_S,
            "ping_interval": _PING_INTERVAL_S,
            "max_outstanding_pings": _PINGS_OUTSTANDING_MAX,
            "pending_size": 0,
        }
        if self._address.credentials is not None:
            login = await asyncio.to_thread(read_nats_login, self._address.credentials)
            options["signature_cb"] = login.sign
            if login.jwt:
                options["user_jwt_cb"] = login.jwt.encode
            else:
                client._public_nkey = login.public_key  # noqa: SLF001 - no option takes a bare key
        return options

    async def _serve(self, client: Client, lost: asyncio.Event) -> None:
        self._client = client
        for listener in list(self._listeners):
            await self._attach(listener, client)
        self._connected.set()
        _log.info("nats_connected", name=self._address.name)
        # nats-py does not tell of every way in which it ends, so this looks too.
        while client.is_connected and not lost.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await lost.wait()
        _log.warning("nats_lost", name=self._address.name)

    def _lose(self) -> None:
        was_connected = self._connected.is_set()
        self._connected.clear()
        self._client = None
        if was_connected:
            for listener in list(self._listeners):
                listener.on_lost()

    async def _end(self, client: Client) -> None:
        with suppress(errors.Error, OSError, TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                if client.is_connected:
                    await client.flush()
                await client.close()
        # A peer that does not read keeps a closed socket open; nats-py has no way to abort it.
        writer = getattr(client._transport, "_io_writer", None)  # noqa: SLF001
        if writer is not None:
            writer.transport.abort()

    async def _attach(self, listener: _Listener, client: Client) -> None:
        if listener.client is client:
            return
        listener.client = client

        async def pass_on(message: Msg) -> None:
            listener.on_message(message)

        with suppress(errors.Error, OSError):
            listener.subscription = await client.subscribe(listener.subject, cb=pass_on)

    async def _detach(self, listener: _Listener) -> None:
        if listener.subscription is not None:
            with suppress(errors.Error, OSError):
                await listener.subscription.unsubscribe()

    async def _round_trip(self, client: Client) -> None:
        with suppress(errors.Error, OSError):
            await client.flush(timeout=self._address.connect_timeout_s)  # type: ignore[arg-type]

    def _resolve(self, message: Msg) -> None:
        answer = self._answers.get(message.subject)
        if answer is not None and not answer.done():
            answer.set_result(message)

    def _fail_answers(self) -> None:
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(BusUnavailableError("The connection to NATS broke."))


def _header_bytes(headers: dict[str, str] | None) -> int:
    """Return how many bytes the headers take; NATS counts them and hangs up over one too many."""
    if not headers:
        return 0
    fields = sum(len(f"{name}: {value}\r\n".encode()) for name, value in headers.items())
    return len(b"NATS/1.0\r\n\r\n") + fields


def status_of(message: Msg) -> str:
    """Return the status that the server gave instead of a message, or an empty string."""
    headers = message.headers
    return headers.get("Status", "") if headers and not message.data else ""
