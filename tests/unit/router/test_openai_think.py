"""Thoughts in a text: found whole and in pieces alike."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.providers.openai.think import Said, ThinkSplitter


def split(pieces: list[str]) -> Said:
    splitter = ThinkSplitter()
    said = [*(splitter.feed(piece) for piece in pieces), splitter.end()]
    return Said("".join(one.thought for one in said), "".join(one.text for one in said))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<think>\nhm\n</think>\n\nyes", Said("hm", "yes")),
        ("  <think>a</think>b</think>", Said("a", "b</think>")),
        ("plain <think>a</think>", Said("", "plain <think>a</think>")),
        ("<think></think>yes", Said("", "yes")),
        ("<think>never ends", Said("never ends", "")),
        ("<thin", Said("", "<thin")),
        ("<think>a < b </thin", Said("a < b </thin", "")),
        ("", Said("", "")),
        ("\n", Said("", "\n")),
    ],
)
def test_thoughts_are_told_from_text(text: str, said: Said) -> None:
    assert said == split([text])
    assert said == split(list(text))


PARTS = st.lists(st.sampled_from(["<think>", "</think>", "\n", " ", "a", "<", "</th", "ink>"]))


@given(parts=PARTS, cuts=st.lists(st.integers(0, 40), max_size=6))
def test_pieces_say_what_the_whole_does(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[start:end] for start, end in pairwise(edges)]

    assert split([text]) == split(pieces)


@given(parts=PARTS)
def test_nothing_but_marks_and_whitespace_is_lost(parts: list[str]) -> None:
    text = "".join(parts)

    said = split([text])

    def bare(value: str) -> str:
        return "".join(value.replace("<think>", "").replace("</think>", "").split())

    assert sorted(bare(text)) == sorted(bare(said.thought + "\n" + said.text))
