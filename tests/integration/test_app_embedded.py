"""The embedded nats-server and Triton are the real ones."""

import asyncio
import socket
from pathlib import Path

import pytest

from app.children import Nursery
from app.embedded import CHECKOUT
from app.embedded_nats import open_nats_server
from app.embedded_triton import open_triton
from app.errors import StartError
from app.processes import session_members
from app.settings_sections import NatsSettings, TritonSettings
from kit.bus.nats import open_nats_bus
from kit.bus.port import StreamSpec
from kit.clock import SystemClock


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def nursery(folder: Path) -> Nursery:
    return Nursery(folder / "run", folder / "logs")


async def test_embedded_nats_keeps_its_streams_over_a_restart(tmp_path: Path) -> None:
    settings = NatsSettings(port=free_ports(1)[0])
    stream = StreamSpec("KEPT", ("kept.v1",))

    for message_id, position in (("a", 1), ("b", 2)):
        async with (
            open_nats_server(
                settings, state_dir=tmp_path, nursery=nursery(tmp_path), clock=SystemClock()
            ),
            open_nats_bus(settings.address(), name="test") as bus,
        ):
            await bus.ensure_stream(stream)
            assert position == await bus.publish_durable("kept.v1", b"x", message_id=message_id)


async def test_taken_port_is_told_with_the_variable_that_moves_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        settings = NatsSettings(port=other.getsockname()[1])
        server = open_nats_server(
            settings, state_dir=tmp_path, nursery=nursery(tmp_path), clock=SystemClock()
        )

        with pytest.raises(StartError, match="TURNPIKE__NATS__PORT"):
            await server.__aenter__()


async def test_embedded_triton_comes_up_and_leaves_nothing(tmp_path: Path) -> None:
    grpc, http, metrics = free_ports(3)
    settings = TritonSettings(grpc_port=grpc, http_port=http, metrics_port=metrics)

    async with open_triton(
        settings, checkout=CHECKOUT, nursery=nursery(tmp_path), clock=SystemClock()
    ) as child:
        pid = child.pid
        _, writer = await asyncio.open_connection("127.0.0.1", grpc)
        writer.close()

    assert [] == session_members(pid)
    assert [] == list(Path("/dev/shm").glob(f"triton{pid}_*"))


async def test_missing_triton_is_one_line(tmp_path: Path) -> None:
    settings = TritonSettings(python="nowhere/bin/python", installer="")
    triton = open_triton(
        settings, checkout=tmp_path, nursery=nursery(tmp_path), clock=SystemClock()
    )

    with pytest.raises(StartError, match=r"^Triton cannot run here: .* is missing\.$"):
        await triton.__aenter__()


async def test_failed_triton_install_gives_its_reason(tmp_path: Path) -> None:
    (tmp_path / "install.py").write_text("import sys; sys.exit('this is no Linux')")
    settings = TritonSettings(python="nowhere/bin/python", installer="install.py")
    triton = open_triton(
        settings, checkout=tmp_path, nursery=nursery(tmp_path), clock=SystemClock()
    )

    with pytest.raises(StartError, match=r"^Triton cannot run here: this is no Linux$"):
        await triton.__aenter__()
