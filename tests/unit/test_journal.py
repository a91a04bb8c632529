"""The journal's records, room, segments and orphans, on files of a temporary directory."""

import asyncio
import os
import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import Reason
from kit.journal import Journal, JournalFullError, adopt_orphans, open_journal
from kit.journal_segment import HEADER, frame, read_frames

_ROOM = 1 << 30


def crash_copy(directory: Path, target: Path) -> Path:
    """Copy the files as they lie on disk: what a sudden end of the process would leave."""
    shutil.copytree(directory, target)
    return target


def recovered(directory: Path) -> list[bytes]:
    """Adopt and read everything, then let go again."""
    records: list[bytes] = []
    for orphan in adopt_orphans(directory):
        records.extend(orphan.records())
        orphan.close()
    return records


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let writes beyond `size` bytes of a file fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_crash_leaves_every_record_in_order(tmp_path: Path) -> None:
    with open_journal(tmp_path / "live", bytes_max=_ROOM) as journal:
        for payload in (b"one", b"", b"three"):
            journal.append(payload)
        left = crash_copy(tmp_path / "live", tmp_path / "left")

    assert [b"one", b"", b"three"] == recovered(left)


@given(
    steps=st.lists(st.one_of(st.binary(max_size=40), st.integers(0, 50)), max_size=60),
    segment_bytes=st.integers(1, 150),
)
def test_crash_leaves_the_segments_that_were_needed_and_nothing_else(
    steps: list[bytes | int], segment_bytes: int
) -> None:
    with TemporaryDirectory() as name:
        live = Path(name) / "live"
        with open_journal(live, bytes_max=_ROOM, segment_bytes=segment_bytes) as journal:
            appended: list[tuple[int, bytes]] = []
            held: list[int] = []
            for step in steps:
                if isinstance(step, bytes):
                    ticket = journal.append(step)
                    appended.append((ticket, step))
                    held.append(ticket)
                elif held:
                    journal.release(held.pop(step % len(held)))
            needed = {*held, *([appended[-1][0]] if appended else [])}
            got = recovered(crash_copy(live, Path(name) / "left"))

            assert [payload for ticket, payload in appended if ticket in needed] == got
            assert len(held) == journal.live_count


def test_orderly_end_with_everything_released_leaves_no_file(tmp_path: Path) -> None:
    with open_journal(tmp_path, bytes_max=_ROOM) as journal:
        journal.release(journal.append(b"x"))

    assert [] == list(tmp_path.iterdir())


def test_orderly_end_with_a_needed_record_leaves_it_to_be_adopted(tmp_path: Path) -> None:
    with open_journal(tmp_path, bytes_max=_ROOM) as journal:
        journal.append(b"needed")

    (orphan,) = adopt_orphans(tmp_path)
    assert [b"needed"] == list(orphan.records())

    orphan.discard()
    assert [] == list(tmp_path.iterdir())


def test_living_journal_is_no_orphan(tmp_path: Path) -> None:
    with open_journal(tmp_path, bytes_max=_ROOM) as journal:
        journal.append(b"x")

        assert [] == adopt_orphans(tmp_path)


def test_adopted_orphan_is_not_adopted_again_until_let_go(tmp_path: Path) -> None:
    with open_journal(tmp_path, bytes_max=_ROOM) as journal:
        journal.append(b"x")
    (first,) = adopt_orphans(tmp_path)

    assert [] == adopt_orphans(tmp_path)

    first.close()
    (again,) = adopt_orphans(tmp_path)
    again.discard()


def test_orphan_without_segments_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "0123456789abcdef.lock").touch()

    assert [] == adopt_orphans(tmp_path)
    assert [] == list(tmp_path.iterdir())


def test_missing_directory_has_no_orphans(tmp_path: Path) -> None:
    assert [] == adopt_orphans(tmp_path / "none")


@given(cut=st.integers(0, 3 * HEADER.size + 9))
def test_torn_tail_costs_only_the_torn_record(cut: int) -> None:
    payloads = [b"aaa", b"bbb", b"ccc"]
    data = b"".join(frame(payload) for payload in payloads)

    got, read_bytes = read_frames(data[:cut])

    whole = cut // (HEADER.size + 3)
    assert (payloads[:whole], whole * (HEADER.size + 3)) == (got, read_bytes)


@given(
    payloads=st.lists(st.binary(max_size=20), min_size=1, max_size=5),
    data=st.data(),
)
def test_changed_bit_is_noticed(payloads: list[bytes], data: st.DataObject) -> None:
    frames = [frame(payload) for payload in payloads]
    whole = bytearray(b"".join(frames))
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    whole[bit // 8] ^= 1 << bit % 8

    got, read_bytes = read_frames(bytes(whole))

    ends = [sum(map(len, frames[: index + 1])) for index in range(len(frames))]
    intact = sum(end <= bit // 8 for end in ends)
    assert payloads[:intact] == got
    assert sum(map(len, frames[:intact])) == read_bytes


def test_zeros_are_no_record() -> None:
    assert ([b"x"], 9) == read_frames(frame(b"x") + bytes(64))


def test_damage_in_one_segment_spares_the_next_and_is_counted(tmp_path: Path) -> None:
    with open_journal(tmp_path, bytes_max=_ROOM, segment_bytes=25) as journal:
        for payload in (b"1111", b"2222", b"3333"):
            journal.append(payload)
    first = min(tmp_path.glob("*.segment"))
    damaged = bytearray(first.read_bytes())
    damaged[14] ^= 1
    first.write_bytes(damaged)

    (orphan,) = adopt_orphans(tmp_path)

    assert [b"1111", b"3333"] == list(orphan.records())
    assert 12 == orphan.skipped_bytes
    orphan.discard()


def test_full_journal_refuses_before_writing(tmp_path: Path) -> None:
    with open_journal(tmp_path, bytes_max=100) as journal:
        ticket = journal.append(bytes(80))

        with pytest.raises(JournalFullError) as refused:
            journal.append(bytes(10))

        assert Reason.JOURNAL_FULL == refused.value.reason
        assert (1, 88) == (journal.live_count, journal.live_bytes)
        journal.release(ticket)
        journal.release(journal.append(bytes(80)))


def test_journal_calls_itself_full_while_there_is_room_for_what_was_begun(tmp_path: Path) -> None:
    with open_journal(tmp_path, bytes_max=800) as journal:
        tickets = [journal.append(bytes(92)) for _ in range(6)]
        was_full = journal.is_full
        tickets.append(journal.append(bytes(92)))

        assert (False, True) == (was_full, journal.is_full)
        tickets.append(journal.append(bytes(92)))
        for ticket in tickets:
            journal.release(ticket)
        assert not journal.is_full


def test_full_disk_refuses_and_keeps_what_was_written(tmp_path: Path) -> None:
    step = 256 * 1024
    with open_journal(tmp_path / "live", bytes_max=_ROOM, segment_bytes=2 * step) as journal:
        kept = journal.append(b"kept")
        with file_size_limit(step + 1):
            within = journal.append(b"there is room on the disk for this one")
            with pytest.raises(JournalFullError):
                journal.append(bytes(step))
            with pytest.raises(JournalFullError):
                journal.append(bytes(3 * step))
        after = journal.append(b"after")

        left = crash_copy(tmp_path / "live", tmp_path / "left")
        assert [b"kept", b"there is room on the disk for this one", b"after"] == recovered(left)
        assert (3, 71) == (journal.live_count, journal.live_bytes)
        for ticket in (kept, within, after):
            journal.release(ticket)


def test_record_without_its_header_is_not_there_yet(tmp_path: Path) -> None:
    with open_journal(tmp_path / "live", bytes_max=_ROOM) as journal:
        journal.append(b"whole")
        left = crash_copy(tmp_path / "live", tmp_path / "left")
    (segment,) = left.glob("*.segment")
    data = bytearray(segment.read_bytes())
    data[13 + HEADER.size : 13 + HEADER.size + 4] = b"torn"
    segment.write_bytes(data)

    (orphan,) = adopt_orphans(left)
    assert [b"whole"] == list(orphan.records())
    assert HEADER.size + 4 == orphan.skipped_bytes
    orphan.close()


def test_segment_goes_when_its_last_record_is_released(tmp_path: Path) -> None:
    with open_journal(tmp_path, bytes_max=_ROOM, segment_bytes=30) as journal:
        first, second, third = (journal.append(b"xx") for _ in range(3))
        fourth = journal.append(b"xx")
        segments_before = len(list(tmp_path.glob("*.segment")))
        journal.release(first)
        journal.release(third)
        segments_between = len(list(tmp_path.glob("*.segment")))
        journal.release(second)

        assert (2, 2, 1) == (segments_before, segments_between, len(list(tmp_path.glob("*.s*"))))
        assert 10 == journal.live_bytes
        journal.release(fourth)


def test_idle_journal_stays_small(tmp_path: Path) -> None:
    with open_journal(tmp_path, bytes_max=_ROOM) as journal:
        for _ in range(1_000):
            journal.release(journal.append(bytes(300)))

        sizes = [path.stat().st_size for path in tmp_path.glob("*.segment")]
        assert [256 * 1024] == sizes
        assert journal.live_bytes <= 70_000


def test_releasing_more_than_was_appended_is_refused(tmp_path: Path) -> None:
    with open_journal(tmp_path, bytes_max=_ROOM) as journal:
        ticket = journal.append(b"x")
        journal.release(ticket)

        with pytest.raises(ValueError, match="no record"):
            journal.release(ticket)
        with pytest.raises(ValueError, match="no record"):
            journal.release(99)


def test_record_larger_than_a_segment_gets_one_of_its_own(tmp_path: Path) -> None:
    with open_journal(tmp_path / "live", bytes_max=_ROOM, segment_bytes=20) as journal:
        for payload in (b"small", bytes(100), b"tiny"):
            journal.append(payload)

        left = crash_copy(tmp_path / "live", tmp_path / "left")
        assert [b"small", bytes(100), b"tiny"] == recovered(left)


async def test_calls_to_sync_at_one_time_share_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(real(descriptor) or 1))

    with open_journal(tmp_path, bytes_max=_ROOM, segment_bytes=100, is_synced=True) as journal:
        await write_and_sync(journal, 50)

    # The first call syncs its own record, the second everybody else's; each the directory too.
    assert 2 <= len(synced) <= 40


async def test_sync_without_the_setting_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "fsync")

    with open_journal(tmp_path, bytes_max=_ROOM) as journal:
        await write_and_sync(journal, 3)


async def test_failed_sync_is_told_and_stays_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(5, "Input/output error")

    with open_journal(tmp_path, bytes_max=_ROOM, is_synced=True) as journal:
        ticket = journal.append(b"x")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", refuse)
            with pytest.raises(JournalFullError, match="Input/output error"):
                await journal.sync()

        with pytest.raises(JournalFullError, match="earlier"):
            await journal.sync()
        journal.release(ticket)


async def write_and_sync(journal: Journal, count: int) -> None:
    """Append `count` records, each followed by a sync of its own, then release them."""

    async def one(index: int) -> None:
        ticket = journal.append(b"%d" % index)
        await journal.sync()
        journal.release(ticket)

    async with asyncio.TaskGroup() as group:
        for index in range(count):
            group.create_task(one(index))
