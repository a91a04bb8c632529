"""Who is reached how: in this process by reference, elsewhere over the network."""

from collections.abc import Mapping
from contextlib import AsyncExitStack

from grpc import aio

from app.settings_sections import PeersSettings
from kit.rpc.local import HandlerTable, LocalChannel
from kit.rpc.remote import open_channel


async def channel_to(
    name: str, running: Mapping[str, HandlerTable], peers: PeersSettings, stack: AsyncExitStack
) -> aio.Channel:
    """Return a local channel when the callee runs in this process, else a real one.

    Args:
        name: The callee, such as `auth`.
        running: Handlers of the services of this process.
        peers: Where the others listen, and what is shown to them.
        stack: Closes a real channel.
    """
    if name in running:
        return LocalChannel(running[name])
    address = getattr(peers, name)
    return await stack.enter_async_context(
        open_channel(address, token=peers.token.get_secret_value())
    )


class Links:
    """The channels of one process: one for each callee, made when it is first asked for.

    Args:
        peers: Where services of other processes listen.
        stack: Closes the channels.
    """

    def __init__(self, peers: PeersSettings, stack: AsyncExitStack) -> None:
        self._peers = peers
        self._stack = stack
        self._running: dict[str, HandlerTable] = {}
        self._channels: dict[str, aio.Channel] = {}

    def add(self, name: str, table: HandlerTable) -> None:
        """Say that a service runs in this process; to be called before anyone asks for it."""
        self._running[name] = table

    async def channel(self, name: str) -> aio.Channel:
        """Return the channel to a service."""
        if name not in self._channels:
            self._channels[name] = await channel_to(name, self._running, self._peers, self._stack)
        return self._channels[name]
