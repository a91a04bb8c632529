"""How long first tokens took of late, and after how long one is late."""

import math

from hypothesis import given
from hypothesis import strategies as st

from services.router.speed import LATE_PERCENT, SAMPLES_MIN, WINDOW, FirstTokens, Kind

KIND = Kind(operation=0, is_streaming=True, size=0)


@given(st.lists(st.sampled_from([0.1, 0.2, 0.25, 1.0, 7.0]), max_size=2 * WINDOW))
def test_nearest_rank_of_the_latest_answers_is_late(seconds: list[float]) -> None:
    seen = FirstTokens()
    for second in seconds:
        seen.add(KIND, second)

    latest = sorted(seconds[-WINDOW:])
    rank = math.ceil(len(latest) * LATE_PERCENT / 100)
    expected = latest[rank - 1] if len(latest) >= SAMPLES_MIN else None
    assert expected == seen.late_s(KIND)


def test_kinds_of_requests_are_told_apart() -> None:
    seen = FirstTokens()
    for _ in range(SAMPLES_MIN):
        seen.add(KIND, 1.0)
        seen.add(KIND._replace(is_streaming=False), 9.0)

    assert 1.0 == seen.late_s(KIND)
    assert 9.0 == seen.late_s(KIND._replace(is_streaming=False))
    assert seen.late_s(KIND._replace(size=1)) is None
