"""Cutting a text at a stop string, and taking pieces out of whole texts, however they are split."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.providers.port import ProviderError
from services.router.providers.triton.stops import GrowingText, StopCutter

TEXTS = st.text(alphabet="abc", max_size=30)
STOPS = st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=3)


def pieces(text: str, ends: list[int]) -> list[str]:
    marks = sorted({0, len(text), *(end for end in ends if end <= len(text))})
    return [text[start:end] for start, end in itertools.pairwise(marks)]


def shown(stops: list[str], given_pieces: list[str], *, is_kept: bool = False) -> tuple[str, bool]:
    cutter = StopCutter(stops, is_kept=is_kept)
    text = "".join(cutter.cut(piece) for piece in given_pieces)
    return text + cutter.rest(), cutter.is_cut


@given(text=TEXTS, stops=STOPS, ends=st.lists(st.integers(0, 30)), is_kept=st.booleans())
def test_text_is_cut_the_same_however_it_is_split(
    text: str, stops: list[str], ends: list[int], is_kept: bool
) -> None:
    whole = shown(stops, [text], is_kept=is_kept)

    assert whole == shown(stops, pieces(text, ends), is_kept=is_kept)


@given(text=TEXTS, stops=STOPS)
def test_cut_text_is_a_start_of_the_text_without_any_stop_string(
    text: str, stops: list[str]
) -> None:
    left, is_cut = shown(stops, list(text))

    assert text.startswith(left)
    assert is_cut == any(stop in text for stop in stops)
    assert not any(stop in left for stop in stops)
    assert is_cut or left == text


def test_what_may_begin_a_stop_string_is_held_back_and_no_more() -> None:
    cutter = StopCutter(["END", "\n\n"])

    found = [cutter.cut(piece) for piece in ("a E", "NE", "x\n", "\nb")]

    assert ["a ", "EN", "Ex", ""] == found
    assert cutter.is_cut
    assert "" == cutter.cut("more") == cutter.rest()


def test_stop_string_stays_when_it_was_asked_for() -> None:
    assert ("a. END", True) == shown(["END"], ["a. E", "ND b"], is_kept=True)


@given(text=st.text(max_size=20), ends=st.lists(st.integers(0, 20)))
def test_whole_texts_give_every_piece_once(text: str, ends: list[int]) -> None:
    growing = GrowingText()
    wholes = [text[:end] for end in sorted(ends)] + [text]

    found = "".join(growing.piece(whole) for whole in wholes)

    assert text == found + growing.rest()


def test_character_that_has_not_come_whole_is_held_back() -> None:
    growing = GrowingText()

    found = [growing.piece(whole) for whole in ("caf\ufffd", "café", "café \ufffd")]

    assert ["caf", "é", " "] == found
    assert "\ufffd" == growing.rest()


def test_text_that_takes_something_back_is_no_whole_text() -> None:
    growing = GrowingText()
    growing.piece("one two")

    with pytest.raises(ProviderError):
        growing.piece("one")
