"""The access log: one write for many lines, bounded, and nothing lost in silence."""

import json
from collections.abc import Callable
from typing import Final

from kit.logs import AccessLog

CANARY: Final = "\x1b[2Jforged\n\u2028\ud800"


class Timer:
    """Stands in for a loop's `call_later`."""

    def __init__(self) -> None:
        self.waiting: list[tuple[float, Callable[[], None]]] = []

    def __call__(self, delay_s: float, call: Callable[[], None]) -> None:
        self.waiting.append((delay_s, call))

    def fire(self) -> None:
        waiting, self.waiting = self.waiting, []
        for _, call in waiting:
            call()


class Disk:
    """Takes what is written, at most `part` bytes at a time."""

    def __init__(self, part: int | None = None) -> None:
        self.writes: list[bytes] = []
        self.part = part
        self.is_broken = False

    def __call__(self, data: bytes) -> int:
        if self.is_broken:
            raise BrokenPipeError
        taken = data[: self.part]
        self.writes.append(taken)
        return len(taken)

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in b"".join(self.writes).splitlines()]


def test_lines_of_one_interval_are_one_write() -> None:
    timer, disk = Timer(), Disk()
    log = AccessLog(disk, later=timer, flush_s=0.5)

    for number in range(3):
        log.add({"event": "request_finished", "number": number})
    before = list(disk.writes)
    delays = [delay_s for delay_s, _ in timer.waiting]
    timer.fire()

    assert ([], [0.5]) == (before, delays)
    assert 1 == len(disk.writes)
    assert disk.writes[0].endswith(b"}\n")
    assert [0, 1, 2] == [line["number"] for line in disk.lines]


def test_line_after_a_flush_starts_a_new_timer() -> None:
    timer, disk = Timer(), Disk()
    log = AccessLog(disk, later=timer)
    log.add({"number": 0})
    timer.fire()

    log.add({"number": 1})
    timer.fire()
    timer.fire()

    assert [0, 1] == [line["number"] for line in disk.lines]


def test_full_log_drops_the_oldest_and_counts() -> None:
    timer, disk = Timer(), Disk()
    log = AccessLog(disk, later=timer, lines_max=2)

    for number in range(5):
        log.add({"number": number})
    timer.fire()

    assert [3, 4] == [line["number"] for line in disk.lines]
    assert 3 == log.dropped_count


def test_part_that_was_not_taken_is_written_again() -> None:
    timer, disk = Timer(), Disk(part=5)
    log = AccessLog(disk, later=timer)

    log.add({"number": 1})
    log.add({"number": 2})
    log.flush()

    assert [1, 2] == [line["number"] for line in disk.lines]
    assert 0 == log.dropped_count


def test_lines_that_cannot_be_written_are_counted() -> None:
    timer, disk = Timer(), Disk()
    log = AccessLog(disk, later=timer)
    disk.is_broken = True
    log.add({"number": 1})
    log.add({"number": 2})
    timer.fire()
    disk.is_broken, disk.part = False, 0
    log.add({"number": 3})
    timer.fire()

    assert 3 == log.dropped_count


def test_close_writes_what_waits_and_what_comes_later_at_once() -> None:
    timer, disk = Timer(), Disk()
    log = AccessLog(disk, later=timer)
    log.add({"number": 1})

    log.close()
    log.add({"number": 2})

    assert [1, 2] == [line["number"] for line in disk.lines]


def test_odd_text_stays_inside_one_plain_line() -> None:
    timer, disk = Timer(), Disk()
    log = AccessLog(disk, later=timer)

    log.add({"model": CANARY, "number": 2**70})
    log.add({"model": "Größe\u2028"})
    log.add({"model": object()})
    log.flush()

    written = b"".join(disk.writes)
    assert [CANARY, "Größe\u2028", "<object>"] == [line["model"] for line in disk.lines]
    assert 3 == written.count(b"\n")
    assert written.isascii()
    assert b"\x1b" not in written
