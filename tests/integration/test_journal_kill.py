"""The journal against `kill -9`, and two processes that adopt at the same moment."""

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from kit.journal import adopt_orphans, open_journal

_ROOT = Path(__file__).parents[2]

_APPEND = """
import sys
from pathlib import Path
from kit.journal import open_journal
with open_journal(Path(sys.argv[1]), bytes_max=1 << 30, segment_bytes=4096) as journal:
    index = 0
    while True:
        journal.append(b"%d:" % index + bytes(index % 700))
        sys.stdout.buffer.write(b"%d\\n" % index)
        sys.stdout.buffer.flush()
        index += 1
"""

_ADOPT = """
import sys
from pathlib import Path
from kit.journal import adopt_orphans
print("ready", flush=True)
sys.stdin.readline()
orphans = adopt_orphans(Path(sys.argv[1]))
print(sum(len(list(orphan.records())) for orphan in orphans), flush=True)
sys.stdin.readline()
"""


def run(program: str, directory: Path) -> subprocess.Popen[bytes]:
    """Start a Python process that works on the journal's directory."""
    return subprocess.Popen(
        [sys.executable, "-c", program, str(directory)],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def printed_until_killed(directory: Path, lines: int) -> list[bytes]:
    """Kill an appending process after it printed `lines` lines; return all whole lines."""
    with run(_APPEND, directory) as process:
        assert process.stdout is not None
        head = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        rest = process.stdout.read().splitlines(keepends=True)
    return [line.strip() for line in head + rest if line.endswith(b"\n")]


@pytest.mark.parametrize("seed", range(6))
def test_every_record_that_was_acknowledged_survives_kill_9(tmp_path: Path, seed: int) -> None:
    printed = printed_until_killed(tmp_path, Random(seed).randrange(1, 3_000))

    (orphan,) = adopt_orphans(tmp_path)
    indexes = [record.partition(b":")[0] for record in orphan.records()]

    assert printed == indexes[: len(printed)]
    # One more may have been written whose line was not.
    assert len(indexes) - len(printed) <= 1
    orphan.discard()
    assert [] == list(tmp_path.iterdir())


def test_living_process_keeps_its_journal_and_a_dead_one_gives_it_up(tmp_path: Path) -> None:
    with run(_APPEND, tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while_alive = adopt_orphans(tmp_path)
        process.kill()
        process.stdout.read()
    after = adopt_orphans(tmp_path)

    assert (0, 1) == (len(while_alive), len(after))
    after[0].discard()


def test_of_many_processes_that_start_at_once_exactly_one_adopts(tmp_path: Path) -> None:
    with open_journal(tmp_path, bytes_max=1 << 20) as journal:
        for _ in range(10):
            journal.append(b"x")
    starters = [run(_ADOPT, tmp_path) for _ in range(4)]
    try:
        for starter in starters:
            assert starter.stdout is not None
            assert b"ready\n" == starter.stdout.readline()
        for starter in starters:
            _tell(starter)
        counts = [int(starter.stdout.readline()) for starter in starters if starter.stdout]
    finally:
        for starter in starters:
            starter.communicate(b"\n")

    assert [0, 0, 0, 10] == sorted(counts)


def _tell(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()
