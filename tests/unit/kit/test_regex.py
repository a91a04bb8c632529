"""Regular expressions of strangers: RE2's syntax, and the benefit of the doubt between engines."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.regex import PATTERN_CHARS_MAX, RegexError, compile_regex, is_full_match


@pytest.mark.parametrize(
    "pattern",
    ["(", "a{2000}", "(a{999}){999}", r"(a)\1", "(?=a)", "(?<=a)b", "*", "[b-a]", "\ud800", "\\"],
)
def test_pattern_that_re2_does_not_take_is_refused(pattern: str) -> None:
    with pytest.raises(RegexError, match="RE2"):
        compile_regex(pattern)


def test_pattern_that_is_too_long_is_refused() -> None:
    with pytest.raises(RegexError, match=f"{PATTERN_CHARS_MAX} are served"):
        compile_regex("a" * (PATTERN_CHARS_MAX + 1))


@pytest.mark.parametrize(
    ("pattern", "text", "is_match"),
    [
        ("a+", "aaa", True),
        ("a+", "aaab", False),
        ("a|ab", "ab", True),
        ("^a$", "a", True),
        ("a", "a\n", False),
        ("a.b", "a\nb", True),
        (r"\w+", "é", True),
        (r"[\w-]+", "é-é", True),
        (r"[^\w]", "é", True),
        (r"\W", "é", True),
        (r"\d\d", "٣3", True),
        (r"a\sb", "a\u00a0b", True),
        (r"\\w", "\\w", True),
        (r"\\w", "\\é", False),
        (r"[\]\w]+", "]é", True),
        (r"[]\w]+", "]é", True),
        (r"[^]\w]+", "é", True),
        ("(a+)+$", "a" * 20_000 + "b", False),
    ],
)
def test_text_matches_as_a_whole(pattern: str, text: str, is_match: bool) -> None:
    assert is_match is is_full_match(pattern, text)


@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=4), st.text(max_size=6))
def test_alternatives_match_themselves_and_nothing_else(choices: list[str], other: str) -> None:
    pattern = "|".join(re.escape(choice) for choice in choices)

    assert all(is_full_match(pattern, choice) for choice in choices)
    assert (other in choices) is is_full_match(pattern, other)
