"""Rate windows: the sum of all grants of a minute never exceeds the limit."""

from hypothesis import given
from hypothesis import strategies as st

from services.auth.limits import (
    WINDOW_MS,
    Ask,
    Grant,
    Limits,
    Window,
    Windows,
    grant,
    window_at,
)

MINUTE = 29_333_333
START = MINUTE * WINDOW_MS
ASKS = st.builds(Ask, st.integers(0, 50), st.integers(0, 5_000))
LIMITS = st.builds(Limits, st.integers(0, 200), st.integers(0, 20_000))


@given(LIMITS, st.lists(ASKS, max_size=60), st.integers(1, 5))
def test_grants_never_exceed_the_limit_and_cover_what_was_asked(
    limits: Limits, asks: list[Ask], replicas: int
) -> None:
    window = Window(MINUTE)
    granted: list[Grant] = []

    for ask in asks:
        answer, window = grant(window, limits, ask, replicas=replicas)
        granted.append(answer)

    assert limits.requests == 0 or sum(g.requests for g in granted) <= limits.requests
    assert limits.tokens == 0 or sum(g.tokens for g in granted) <= limits.tokens
    for ask, answer in zip(asks, granted, strict=True):
        enough = answer.requests >= ask.requests and answer.tokens >= ask.tokens
        nothing = answer.requests == 0 and answer.tokens == 0
        assert enough if answer.is_granted else nothing


@given(LIMITS, st.lists(ASKS, max_size=30))
def test_what_remains_and_what_was_granted_add_up_to_the_limit(
    limits: Limits, asks: list[Ask]
) -> None:
    window = Window(MINUTE)

    for ask in asks:
        answer, window = grant(window, limits, ask, replicas=1)

        if limits.requests:
            assert limits.requests == window.requests + answer.remaining_requests
        if limits.tokens:
            assert limits.tokens == window.tokens + answer.remaining_tokens


@given(st.integers(1, 300), st.integers(1, 4))
def test_holders_that_ask_for_one_at_a_time_get_the_whole_window(limit: int, replicas: int) -> None:
    window, total = Window(MINUTE), 0

    for _ in range(limit):
        answer, window = grant(window, Limits(limit, 0), Ask(1, 10), replicas=replicas)
        total += answer.requests

    assert limit == total


def test_lease_is_an_eighth_of_what_remains_for_each_replica() -> None:
    answer, window = grant(Window(MINUTE), Limits(160, 1600), Ask(1, 30), replicas=2)

    assert Grant(True, 10, 100, 150, 1500) == answer
    assert Window(MINUTE, 10, 100) == window


def test_several_holders_share_a_window_until_it_is_used_up() -> None:
    window = Window(MINUTE)
    answers = []

    for _ in range(5):
        answer, window = grant(window, Limits(16, 0), Ask(4, 0), replicas=1)
        answers.append(answer)

    assert [4, 4, 4, 4, 0] == [a.requests for a in answers]
    assert [True, True, True, True, False] == [a.is_granted for a in answers]


def test_kind_that_is_not_asked_for_is_not_granted() -> None:
    answer, window = grant(Window(MINUTE), Limits(100, 1000), Ask(0, 10), replicas=1)

    assert (0, 125) == (answer.requests, answer.tokens)
    assert Window(MINUTE, 0, 125) == window


def test_refusal_takes_nothing_and_says_whether_tokens_were_short() -> None:
    window = Window(MINUTE, 5, 90)

    tokens_short, after_tokens = grant(window, Limits(10, 100), Ask(1, 11), replicas=1)
    requests_short, after_requests = grant(window, Limits(5, 100), Ask(1, 11), replicas=1)

    assert Grant(False, 0, 0, 5, 10, is_token_limited=True) == tokens_short
    assert Grant(False, 0, 0, 0, 10, is_token_limited=False) == requests_short
    assert window == after_tokens == after_requests


def test_no_limit_grants_what_was_asked_and_counts_nothing() -> None:
    answer, window = grant(Window(MINUTE), Limits(0, 0), Ask(3, 10**9), replicas=1)

    assert Grant(True, 3, 10**9, 0, 0) == answer
    assert Window(MINUTE) == window


def test_limit_lowered_within_a_minute_leaves_nothing_rather_than_less() -> None:
    answer, _ = grant(Window(MINUTE, 50, 0), Limits(10, 0), Ask(1, 0), replicas=1)

    assert Grant(False, 0, 0, 0, 0) == answer


def test_window_ends_with_its_minute() -> None:
    used = Window(MINUTE, 5, 50)

    assert used == window_at(used, START)
    assert used == window_at(used, START + WINDOW_MS - 1)
    assert Window(MINUTE + 1) == window_at(used, START + WINDOW_MS)
    assert Window(MINUTE) == window_at(None, START)


def test_window_of_an_owner_ahead_counts_and_one_of_a_wrong_clock_does_not() -> None:
    used = Window(MINUTE, 5, 50)

    assert used == window_at(used, START - 1)
    assert Window(MINUTE - 2) == window_at(used, START - WINDOW_MS - 1)


def test_time_left_is_never_more_than_a_minute_nor_negative() -> None:
    window = Window(MINUTE)

    assert 1 == window.left_ms(START + WINDOW_MS - 1)
    assert WINDOW_MS == window.left_ms(START - 30_000)
    assert 0 == window.left_ms(START + 2 * WINDOW_MS)


def test_memory_never_forgets_part_of_a_minute_when_answers_cross() -> None:
    windows = Windows(keys_max=2)

    windows.remember("k", Window(MINUTE, 8, 10))
    windows.remember("k", Window(MINUTE, 5, 20))

    assert Window(MINUTE, 8, 20) == windows.at("k", START)


def test_memory_is_bounded_and_drops_the_key_granted_longest_ago() -> None:
    windows = Windows(keys_max=2)

    for key_id in ("a", "b", "a", "c"):
        windows.remember(key_id, Window(MINUTE, 1, 1))

    assert 2 == len(windows)
    assert Window(MINUTE) == windows.at("b", START)
    assert Window(MINUTE, 1, 1) == windows.at("a", START)
