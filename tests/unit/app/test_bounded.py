"""Parts open and close in time; signals are heard; one process holds a state folder."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.bounded import Bounded, Ending, only_one
from app.errors import StartError


@asynccontextmanager
async def part(told: list[str], *, opens: bool = True, closes: bool = True) -> AsyncIterator[str]:
    if not opens:
        await asyncio.Event().wait()
    try:
        yield "open"
    finally:
        if not closes:
            await asyncio.Event().wait()
        told.append("closed")


def bounded(inner: object, *, start_s: float = 5.0, close_s: float = 5.0) -> Bounded[str]:
    return Bounded(inner, name="part", start_s=start_s, close_s=close_s)  # type: ignore[arg-type]


async def test_part_in_time_is_opened_and_closed() -> None:
    told: list[str] = []

    async with bounded(part(told)) as opened:
        assert "open" == opened

    assert ["closed"] == told


async def test_part_that_does_not_open_is_told_by_name() -> None:
    with pytest.raises(StartError, match=r"part did not start within 0\.01 s"):
        await bounded(part([], opens=False), start_s=0.01).__aenter__()


async def test_part_that_does_not_close_is_given_up() -> None:
    told: list[str] = []

    async with bounded(part(told, closes=False), close_s=0.01):
        pass

    assert [] == told


async def test_error_of_the_system_at_the_start_is_told_by_name() -> None:
    @asynccontextmanager
    async def taken() -> AsyncIterator[str]:
        raise OSError(98, "Address already in use")
        yield "never"

    with pytest.raises(StartError, match=r"^part cannot start: Address already in use\.$"):
        await bounded(taken()).__aenter__()


async def test_signal_ends_the_wait() -> None:
    ending = Ending(kill=lambda: None)
    with ending.listening():
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)

        async with asyncio.timeout(10.0):
            await ending.wait()

    assert ending.is_asked


async def test_signal_during_the_start_breaks_it_off() -> None:
    async def start() -> None:
        ending = Ending(kill=lambda: None)
        with ending.listening():
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()

    async with asyncio.timeout(10.0):
        with pytest.raises(asyncio.CancelledError):
            await asyncio.get_running_loop().create_task(start())


def test_state_folder_is_held_by_one_and_free_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "run" / "lock"

    with only_one(path), pytest.raises(StartError, match="runs already"), only_one(path):
        pass

    with only_one(path):
        assert path.exists()
