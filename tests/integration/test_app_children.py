"""Children are real processes here: they end with their owner and leave nothing behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.children import ChildSpec, Nursery, open_child
from app.errors import StartError
from app.processes import find_process, session_members
from kit.clock import SystemClock

SLEEP = ("sleep", "300")
WAIT_S = 20.0
_PARENT = """
import signal, sys
from pathlib import Path
from app.children import ChildSpec, Nursery
nursery = Nursery(Path(sys.argv[1]) / "run", Path(sys.argv[1]) / "logs")
spec = ChildSpec("sleeper", ("sleep", "300"), environment={"PATH": sys.argv[2]})
print(nursery.start(spec).pid, flush=True)
signal.pause()
"""


def spec(*command: str, **more: object) -> ChildSpec:
    environment = {"PATH": os.environ["PATH"]}
    return ChildSpec("sleeper", command or SLEEP, environment=environment, **more)  # type: ignore[arg-type]


def nursery(folder: Path) -> Nursery:
    return Nursery(folder / "run", folder / "logs")


async def until(predicate: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not predicate():
            await asyncio.sleep(0.02)


async def always_ready() -> bool:
    return True


async def test_stopped_child_is_gone_with_everything_it_started(tmp_path: Path) -> None:
    child = nursery(tmp_path).start(spec("sh", "-c", "sleep 300 & sleep 300"))
    await until(lambda: len(session_members(child.pid)) >= 2)

    await child.stop()

    assert [] == session_members(child.pid)
    assert [] == list((tmp_path / "run").iterdir())


async def test_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    deaf = spec("sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done", stop_s=0.2)
    child = nursery(tmp_path).start(deaf)
    await until(lambda: "deaf" in (tmp_path / "logs" / "sleeper.log").read_text())

    await child.stop()

    assert [] == session_members(child.pid)


async def test_child_dies_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path), os.environ["PATH"]],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert parent.stdout is not None
        child_pid = int(parent.stdout.readline())
        await until(lambda: (Path("/proc") / str(child_pid) / "comm").read_text() == "sleep\n")
    finally:
        parent.kill()
        parent.communicate()

    await until(lambda: find_process(child_pid) is None)


async def test_start_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    left = nursery(tmp_path).start(spec("sh", "-c", "sleep 300 & sleep 300"))
    await until(lambda: len(session_members(left.pid)) >= 2)
    shared_memory = Path("/dev/shm") / f"turnpike-test{left.pid}_0"
    shared_memory.write_text("left")
    path = tmp_path / "run" / "sleeper.child.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"shared_memory": f"turnpike-test{left.pid}_"}))

    swept = await nursery(tmp_path).sweep()

    assert ["sleeper"] == swept
    assert [] == session_members(left.pid)
    assert not shared_memory.exists()
    assert [] == list((tmp_path / "run").iterdir())
    await left.stop()


@pytest.mark.parametrize("difference", [{"mark": "another"}, {"start_ticks": 2**62}])
async def test_start_spares_a_process_that_only_has_the_recorded_id(
    tmp_path: Path, difference: dict[str, object]
) -> None:
    innocent = nursery(tmp_path).start(spec())
    path = tmp_path / "run" / "sleeper.child.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | difference))

    swept = await nursery(tmp_path).sweep()

    assert [] == swept
    assert find_process(innocent.pid) is not None
    await innocent.stop()


async def test_unreadable_record_is_removed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "broken.child.json").write_text("{")

    assert [] == await nursery(tmp_path).sweep()
    assert [] == list(run.iterdir())


async def test_child_that_dies_is_started_again(tmp_path: Path) -> None:
    owner = nursery(tmp_path)

    async with open_child(
        owner, spec(), is_ready=always_ready, ready_s=5.0, clock=SystemClock()
    ) as first:
        os.killpg(first.pid, signal.SIGKILL)
        path = tmp_path / "run" / "sleeper.child.json"
        await until(lambda: path.exists() and json.loads(path.read_text())["pid"] != first.pid)
        second_pid = json.loads(path.read_text())["pid"]
        assert find_process(second_pid) is not None

    assert find_process(second_pid) is None


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("sh", "-c", "echo libfoo is missing; exit 3"), "libfoo is missing"),
        (("/nowhere/program",), "/nowhere/program: No such file"),
    ],
)
async def test_child_that_ends_at_once_is_told_with_its_last_line(
    tmp_path: Path, command: tuple[str, ...], told: str
) -> None:
    async def never() -> bool:
        return False

    child = open_child(
        nursery(tmp_path), spec(*command), is_ready=never, ready_s=10.0, clock=SystemClock()
    )

    with pytest.raises(StartError, match=told):
        await child.__aenter__()
    assert [] == list((tmp_path / "run").iterdir())


async def test_child_gets_its_environment_and_no_more(tmp_path: Path) -> None:
    os.environ["TURNPIKE_TEST_SECRET"] = "leak"
    try:
        child = nursery(tmp_path).start(spec("sh", "-c", "env; sleep 300"))
        log = tmp_path / "logs" / "sleeper.log"
        await until(lambda: "PATH=" in log.read_text())
        await child.stop()
    finally:
        del os.environ["TURNPIKE_TEST_SECRET"]

    assert "leak" not in log.read_text()
