"""Writes that wait for the end of the loop's turn, on transports that write down what they get."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
import structlog

from kit.outbox import HELD_BYTES_MAX, HeldTransport, Outbox


class Wire(asyncio.Transport):
    """Stands for a connection; `log` is shared, so that the order over connections shows."""

    def __init__(self, name: str, log: list[tuple[str, bytes]]) -> None:
        super().__init__()
        self.name = name
        self.log = log
        self.is_down = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.log.append((self.name, bytes(data)))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.log.append((self.name, b"".join(list_of_data)))

    def write_eof(self) -> None:
        self.log.append((self.name, b"<eof>"))

    def close(self) -> None:
        self.log.append((self.name, b"<close>"))
        self.is_down = True

    def abort(self) -> None:
        self.log.append((self.name, b"<abort>"))
        self.is_down = True

    def is_closing(self) -> bool:
        return self.is_down

    def get_write_buffer_size(self) -> int:
        return 0


class Rig:
    """Two connections of one loop."""

    def __init__(self) -> None:
        self.log: list[tuple[str, bytes]] = []
        self.outbox = Outbox(asyncio.get_running_loop())
        self.wires = {name: Wire(name, self.log) for name in "ab"}
        self.a, self.b = (HeldTransport(wire, self.outbox) for wire in self.wires.values())


async def test_what_a_turn_writes_leaves_at_its_end_one_write_for_each_connection() -> None:
    rig = Rig()
    rig.a.write(b"1")
    rig.b.writelines((b"2", b"3"))
    rig.a.write(b"4")
    before = list(rig.log)

    await asyncio.sleep(0)

    assert [] == before
    assert [("a", b"14"), ("b", b"23")] == rig.log
    assert 0 == rig.a.get_write_buffer_size()


async def test_more_than_a_turn_may_hold_is_written_at_once_and_in_order() -> None:
    rig = Rig()
    rig.a.write(b"head")
    rig.a.write(bytes(HELD_BYTES_MAX))

    assert [("a", b"head" + bytes(HELD_BYTES_MAX))] == rig.log
    rig.a.write(b"tail")
    assert 4 == rig.a.get_write_buffer_size()
    await asyncio.sleep(0)
    assert ("a", b"tail") == rig.log[-1]


@pytest.mark.parametrize("end", ["close", "write_eof"])
async def test_an_orderly_end_writes_what_is_held_first(end: str) -> None:
    rig = Rig()
    rig.a.write(b"last")
    getattr(rig.a, end)()

    assert [b"last", b"<close>" if end == "close" else b"<eof>"] == [data for _, data in rig.log]


async def test_write_that_fails_ends_its_connection_and_spares_the_others() -> None:
    class Broken(Wire):
        def write(self, data: bytes | bytearray | memoryview) -> None:
            raise RuntimeError("the handler is closed")

    rig = Rig()
    broken = HeldTransport(Broken("c", rig.log), rig.outbox)
    broken.write(b"lost")
    rig.b.write(b"written")

    with structlog.testing.capture_logs() as logs:
        await asyncio.sleep(0)

    assert [("c", b"<abort>"), ("b", b"written")] == rig.log
    assert ["write_failed"] == [line["event"] for line in logs]


async def test_an_aborted_or_closing_connection_gets_nothing_more() -> None:
    rig = Rig()
    rig.a.write(b"dropped")
    rig.b.write(b"too late")
    rig.a.abort()
    rig.wires["b"].is_down = True

    await asyncio.sleep(0)

    assert [("a", b"<abort>")] == rig.log
    assert rig.a.is_closing()


async def test_everything_else_is_asked_of_the_inner_transport() -> None:
    class Inner(Wire):
        def __getattribute__(self, name: str) -> Any:
            if name in {"pause_reading", "resume_reading", "set_write_buffer_limits"}:
                return lambda *given: self.log.append((name, repr(given).encode()))
            return super().__getattribute__(name)

    rig = Rig()
    held = HeldTransport(Inner("c", rig.log), rig.outbox)
    held.pause_reading()
    held.resume_reading()
    held.set_write_buffer_limits(2, 1)

    assert ["pause_reading", "resume_reading", "set_write_buffer_limits"] == [
        name for name, _ in rig.log
    ]
