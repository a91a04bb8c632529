"""The roots file: whole lines, and a line that a crash cut off is taken away."""

from pathlib import Path

import pytest

from services.payment.proof.roots_file import RootsFile

LONG = "x" * 200_000


@pytest.mark.parametrize(
    ("before", "after", "last"),
    [
        (b"", b"", ""),
        (b"one\n", b"one\n", "one"),
        (b"one\ntw", b"one\n", "one"),
        (b"on", b"", ""),
        (b"one\ntwo\n", b"one\ntwo\n", "two"),
        (LONG.encode() + b"\n" + LONG.encode(), LONG.encode() + b"\n", LONG),
        (b"one\n" + LONG.encode() + b"\n", b"one\n" + LONG.encode() + b"\n", LONG),
    ],
)
def test_torn_line_is_taken_away(tmp_path: Path, before: bytes, after: bytes, last: str) -> None:
    path = tmp_path / "folder" / "roots.jsonl"
    path.parent.mkdir()
    path.write_bytes(before)

    assert last == RootsFile(path).heal()
    assert after == path.read_bytes()


def test_file_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "roots.jsonl"

    assert "" == RootsFile(path).heal()
    RootsFile(path).append("one")

    assert "one\n" == path.read_text()
    assert 0o600 == path.stat().st_mode & 0o777


def test_lines_are_read_in_pages_and_only_whole(tmp_path: Path) -> None:
    path = tmp_path / "roots.jsonl"
    file = RootsFile(path)
    assert ([], 0) == file.read(offset=0, count_max=2, line_bytes_max=10)
    path.write_bytes(b"one\ntwo\nthree\nfou")

    first, offset = file.read(offset=0, count_max=2, line_bytes_max=10)
    rest, end = file.read(offset=offset, count_max=2, line_bytes_max=10)

    assert (["one", "two"], ["three"]) == (first, rest)
    assert ([], end) == file.read(offset=end, count_max=2, line_bytes_max=10)
