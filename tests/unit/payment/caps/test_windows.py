"""Days and months are UTC's, and a moment lies in exactly one of each."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.payment.caps.windows import (
    DAY_MS,
    END_OF_TIME_MS,
    CapName,
    CapState,
    Scope,
    Span,
    Window,
    span_of,
    spans_around,
)

_MOMENTS = st.integers(0, END_OF_TIME_MS - 80 * DAY_MS)


def at(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> int:
    moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    return int(moment.timestamp() * 1000)


@pytest.mark.parametrize(
    ("window", "moment", "start", "end"),
    [
        (Window.DAY, at(2026, 11, 26, 23, 59, 59), at(2026, 11, 26), at(2026, 11, 27)),
        (Window.DAY, at(2026, 11, 27), at(2026, 11, 27), at(2026, 11, 28)),
        (Window.MONTH, at(2026, 12, 31, 23), at(2026, 12, 1), at(2027, 1, 1)),
        (Window.MONTH, at(2028, 2, 29), at(2028, 2, 1), at(2028, 3, 1)),
        (Window.TOTAL, at(2026, 11, 26), 0, END_OF_TIME_MS),
    ],
)
def test_window_of_a_moment_begins_and_ends_with_the_calendar(
    window: Window, moment: int, start: int, end: int
) -> None:
    assert Span(start, end) == span_of(window, moment)


@given(window=st.sampled_from([Window.DAY, Window.MONTH]), moment=_MOMENTS)
def test_windows_join_without_a_gap_and_are_whole_days(window: Window, moment: int) -> None:
    span = span_of(window, moment)
    after = span_of(window, span.end_unix_ms)

    assert span.start_unix_ms <= moment < span.end_unix_ms
    assert span.end_unix_ms == after.start_unix_ms
    assert 0 == span.start_unix_ms % DAY_MS == span.end_unix_ms % DAY_MS
    assert span == span_of(window, span.end_unix_ms - 1)


@given(window=st.sampled_from(list(Window)), moment=_MOMENTS)
def test_neighbours_hold_what_clocks_that_differ_see(window: Window, moment: int) -> None:
    around = spans_around(window, moment)

    for skew in (-DAY_MS // 2, 0, DAY_MS // 2):
        assert span_of(window, max(0, moment + skew)) in around


def test_limit_below_what_is_used_leaves_nothing() -> None:
    name = CapName("a", Scope.KEY_EPISODE, "k", Window.TOTAL)

    state = CapState(name, 5, 9, Span(0, 1))

    assert (0, "episode") == (state.left_nusd, state.source)
    assert "key_day" == state._replace(name=CapName("a", Scope.KEY, "k", Window.DAY)).source
