"""Regular expressions of strangers: RE2's syntax, linear time, bounded size; pure."""

from typing import Any, Final, Protocol

PATTERN_CHARS_MAX: Final = 4_096
_PROGRAM_BYTES_MAX: Final = 1_048_576
_WIDER: Final = {"w": r"\pL\pM\pN\p{Pc}", "d": r"\p{Nd}", "s": r"\s\x0b\x85\pZ"}
"""What Unicode-aware engines take these classes for; RE2 takes the ASCII part alone."""


class RegexError(ValueError):
    """A pattern that is not served; its text is a sentence without the pattern."""


class Regex(Protocol):
    """A compiled pattern."""

    def fullmatch(self, text: str) -> Any:  # noqa: ANN401 - a match of RE2's, which has no types
        """Return a match that spans the text, or None."""


def compile_regex(pattern: str, *, is_dot_all: bool = False) -> Regex:
    """Return a compiled pattern; `is_dot_all` lets `.` match a line break too.

    Raises:
        RegexError: RE2 does not take it, or it is too large.
    """
    # Loaded on first use: few requests have a pattern.
    import re2  # noqa: PLC0415

    if len(pattern) > PATTERN_CHARS_MAX:
        raise RegexError(f"has {len(pattern)} characters; {PATTERN_CHARS_MAX} are served")
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = _PROGRAM_BYTES_MAX
    options.dot_nl = is_dot_all
    try:
        compiled: Regex = re2.compile(pattern, options)
    except (re2.error, UnicodeEncodeError) as error:
        raise RegexError("is not a regular expression in RE2's syntax, or too large") from error
    return compiled


def is_full_match(pattern: str, text: str) -> bool:
    """Return whether any usual engine would say that the whole text matches.

    Engines differ on `.` and on whether classes such as word characters are ASCII or Unicode: the
    benefit of the doubt goes to the text.

    Raises:
        RegexError: The pattern is not served.
    """
    if compile_regex(pattern, is_dot_all=True).fullmatch(text):
        return True
    wide = _widened(pattern)
    if wide == pattern or text.isascii():
        return False
    return bool(compile_regex(wide, is_dot_all=True).fullmatch(text))


def _widened(pattern: str) -> str:
    """Return the pattern with its ASCII classes as Unicode ones, outside of negated sets."""
    parts: list[str] = []
    is_in_set = is_negated = False
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "\\" and at + 1 < len(pattern):
            escaped = pattern[at + 1]
            at += 2
            wide = None if is_negated else _WIDER.get(escaped)
            if wide is None:
                parts.append("\\" + escaped)
            else:
                parts.append(wide if is_in_set else f"[{wide}]")
            continue
        if char == "[" and not is_in_set:
            is_in_set, is_negated = True, pattern.startswith("^", at + 1)
            # A bracket that closes at once is one of the set.
            opening = 1 + is_negated + pattern.startswith("]", at + 1 + is_negated)
            parts.append(pattern[at : at + opening])
            at += opening
            continue
        if char == "]" and is_in_set:
            is_in_set = is_negated = False
        parts.append(char)
        at += 1
    return "".join(parts)
