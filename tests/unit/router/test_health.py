"""The circuit breaker of one deployment."""

from services.router.health import CONSECUTIVE_MAX, Breaker


def test_breaker_opens_after_five_failures_in_a_row() -> None:
    breaker = Breaker()

    for _ in range(CONSECUTIVE_MAX - 1):
        breaker.failed(1.0)
    was_closed = breaker.is_closed
    breaker.failed(1.0)

    assert was_closed
    assert not breaker.may_call(1.0)
    assert 5.0 == breaker.retry_after_s(1.0)


def test_breaker_opens_when_half_of_ten_calls_failed() -> None:
    breaker = Breaker()

    for turn in range(5):
        breaker.succeeded(turn)
        breaker.failed(turn)

    assert not breaker.is_closed


def test_failures_older_than_the_window_are_forgotten() -> None:
    breaker = Breaker()
    for _ in range(4):
        breaker.failed(0.0)
        breaker.succeeded(0.0)

    breaker.failed(100.0)
    breaker.succeeded(100.0)

    assert breaker.is_closed


def test_open_breaker_lets_exactly_one_call_through_after_its_rest() -> None:
    breaker = Breaker()
    for _ in range(CONSECUTIVE_MAX):
        breaker.failed(0.0)

    before, after = breaker.may_call(4.9), breaker.may_call(5.0)
    breaker.claim()

    assert (False, True) == (before, after)
    assert not breaker.may_call(5.0)


def test_rest_doubles_to_twenty_seconds_while_probes_fail() -> None:
    breaker = Breaker()
    for _ in range(CONSECUTIVE_MAX):
        breaker.failed(0.0)

    rests = []
    now_s = 0.0
    for _ in range(3):
        now_s += breaker.retry_after_s(now_s)
        breaker.claim()
        breaker.failed(now_s)
        rests.append(breaker.retry_after_s(now_s))

    assert [10.0, 20.0, 20.0] == rests


def test_good_call_closes_an_open_breaker() -> None:
    breaker = Breaker()
    for _ in range(CONSECUTIVE_MAX):
        breaker.failed(0.0)

    breaker.claim()
    breaker.succeeded(6.0)

    assert breaker.is_closed
    assert breaker.may_call(6.0)


def test_abandoned_probe_frees_the_slot_for_the_next_one() -> None:
    breaker = Breaker()
    for _ in range(CONSECUTIVE_MAX):
        breaker.failed(0.0)

    breaker.claim()
    breaker.abandoned()

    assert breaker.may_call(5.0)


def test_rate_limited_upstream_rests_as_long_as_it_asked() -> None:
    breaker = Breaker()

    breaker.failed(0.0, cool_s=30.0)

    assert 30.0 == breaker.retry_after_s(0.0)


def test_free_probe_ends_the_rest_at_once() -> None:
    breaker = Breaker()
    for _ in range(CONSECUTIVE_MAX):
        breaker.failed(0.0)

    breaker.probed(1.0)

    assert breaker.may_call(1.0)
    assert not breaker.is_closed


def test_longest_rest_that_the_upstream_asked_for_wins() -> None:
    breaker = Breaker()

    breaker.failed(0.0, cool_s=30.0)
    breaker.failed(1.0, cool_s=3.0)

    assert 29.0 == breaker.retry_after_s(1.0)


def test_free_probe_does_not_shorten_a_rest_that_the_upstream_asked_for() -> None:
    breaker = Breaker()
    breaker.failed(0.0, cool_s=3.0)

    breaker.probed(1.0)

    assert 3.0 == 1.0 + breaker.retry_after_s(1.0)
    assert breaker.may_call(3.0)


def test_late_success_of_an_older_call_does_not_end_a_rest_that_was_asked_for() -> None:
    breaker = Breaker()
    breaker.claim()
    breaker.failed(0.0, cool_s=30.0)

    breaker.succeeded(1.0)

    assert not breaker.may_call(29.0)


def test_call_after_the_rest_that_was_asked_for_closes_the_breaker() -> None:
    breaker = Breaker()
    breaker.failed(0.0, cool_s=30.0)

    breaker.claim()
    breaker.succeeded(31.0)

    assert breaker.is_closed


def test_word_of_another_router_is_kept_until_it_takes_it_back() -> None:
    breaker = Breaker()
    breaker.cool(30.0)

    breaker.probed(1.0)
    was_kept = not breaker.may_call(1.0)
    breaker.cleared(2.0)

    assert was_kept
    assert breaker.may_call(2.0)
