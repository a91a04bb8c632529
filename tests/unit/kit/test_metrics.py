"""Metrics: what Prometheus reads of what was counted."""

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from kit.metrics import LABEL_LENGTH_MAX, Reading, Spread, Tally


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def text(registry: CollectorRegistry) -> str:
    return generate_latest(registry).decode()


def test_a_tally_shows_what_was_added_to_each_of_its_children(registry: CollectorRegistry) -> None:
    tally = Tally(registry, "turnpike_room_calls", "Calls.", ("route", "status"))

    tally.child("chat", "200").value += 1
    tally.child("chat", "200").add()
    tally.child("chat", "429").add(5)

    expected = """\
# HELP turnpike_room_calls_total Calls.
# TYPE turnpike_room_calls_total counter
turnpike_room_calls_total{route="chat",status="200"} 2.0
turnpike_room_calls_total{route="chat",status="429"} 5.0
"""
    assert expected == text(registry)


def test_a_tally_without_labels_is_shown_before_anything_was_counted(
    registry: CollectorRegistry,
) -> None:
    Tally(registry, "turnpike_room_losses", "Losses.")

    assert 0.0 == registry.get_sample_value("turnpike_room_losses_total")


def test_a_child_is_the_same_object_each_time(registry: CollectorRegistry) -> None:
    tally = Tally(registry, "turnpike_room_calls", "Calls.", ("route",))

    assert tally.child("chat") is tally.child("chat")


def test_a_spread_shows_cumulative_buckets_whose_upper_bounds_belong_to_them(
    registry: CollectorRegistry,
) -> None:
    spread = Spread(registry, "turnpike_room_seconds", "Durations.", ("route",), (0.1, 1, 10))

    for seconds in (0.05, 0.1, 0.5, 10, 11):
        spread.child("chat").observe(seconds)

    expected = """\
# HELP turnpike_room_seconds Durations.
# TYPE turnpike_room_seconds histogram
turnpike_room_seconds_bucket{le="0.1",route="chat"} 2.0
turnpike_room_seconds_bucket{le="1.0",route="chat"} 3.0
turnpike_room_seconds_bucket{le="10.0",route="chat"} 4.0
turnpike_room_seconds_bucket{le="+Inf",route="chat"} 5.0
turnpike_room_seconds_count{route="chat"} 5.0
turnpike_room_seconds_sum{route="chat"} 21.65
"""
    assert expected == text(registry)


@pytest.mark.parametrize("buckets", [(2, 1), (1, 1), (0, 1), (-1, 1)])
def test_buckets_that_do_not_ascend_from_above_zero_are_refused(
    registry: CollectorRegistry, buckets: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="ascend"):
        Spread(registry, "turnpike_room_seconds", "Durations.", (), buckets)


def test_a_reading_is_asked_when_prometheus_reads(registry: CollectorRegistry) -> None:
    waiting = [1, 2, 3]
    Reading(registry, "turnpike_room_waiting", "What waits.", lambda: {(): len(waiting)})

    before = registry.get_sample_value("turnpike_room_waiting")
    waiting.clear()

    assert (3.0, 0.0) == (before, registry.get_sample_value("turnpike_room_waiting"))


def test_a_reading_of_a_counter_is_shown_as_one(registry: CollectorRegistry) -> None:
    counts: dict[tuple[str, ...], int] = {("a", "ok"): 2, ("b", "timeout"): 1}
    Reading(
        registry,
        "turnpike_room_attempts",
        "Attempts.",
        lambda: counts,
        ("deployment", "result"),
        is_counter=True,
    )

    counts["a", "ok"] += 1

    expected = """\
# HELP turnpike_room_attempts_total Attempts.
# TYPE turnpike_room_attempts_total counter
turnpike_room_attempts_total{deployment="a",result="ok"} 3.0
turnpike_room_attempts_total{deployment="b",result="timeout"} 1.0
"""
    assert expected == text(registry)


def test_a_reading_is_not_asked_before(registry: CollectorRegistry) -> None:
    def read() -> dict[tuple[str, ...], float]:
        raise AssertionError

    Reading(registry, "turnpike_room_open", "What is open.", read, ("deployment",))


def test_label_sets_beyond_the_bound_are_counted_as_other(registry: CollectorRegistry) -> None:
    tally = Tally(registry, "turnpike_room_calls", "Calls.", ("model", "class"), label_sets_max=2)

    for model in ("a", "b", "c", "d", "a"):
        tally.child(model, "prompt").add()

    expected = {("a", "prompt"): 2.0, ("b", "prompt"): 1.0, ("other", "other"): 2.0}
    found = {
        (sample.labels["model"], sample.labels["class"]): sample.value
        for family in registry.collect()
        for sample in family.samples
    }
    assert expected == found


@pytest.mark.parametrize("values", [(), ("a", "b")])
def test_a_wrong_number_of_label_values_is_refused(
    registry: CollectorRegistry, values: tuple[str, ...]
) -> None:
    tally = Tally(registry, "turnpike_room_calls", "Calls.", ("model",))

    with pytest.raises(ValueError, match="labels"):
        tally.child(*values)


def test_odd_label_values_leave_the_page_readable(registry: CollectorRegistry) -> None:
    tally = Tally(registry, "turnpike_room_calls", "Calls.", ("model",))
    odd = ['quo"te', "back\\slash", "new\nline", "half\ud800", "half\udfff", "long" * 100]

    for value in odd:
        tally.child(value).add()

    (family,) = text_string_to_metric_families(text(registry))
    found = {sample.labels["model"]: sample.value for sample in family.samples}
    expected = dict.fromkeys(odd[:3], 1.0)
    expected |= {"half?": 2.0, ("long" * 100)[:LABEL_LENGTH_MAX]: 1.0}
    assert expected == found


def test_two_metrics_of_one_name_are_refused(registry: CollectorRegistry) -> None:
    Tally(registry, "turnpike_room_calls", "Calls.")

    with pytest.raises(ValueError, match="turnpike_room_calls"):
        Tally(registry, "turnpike_room_calls", "Calls.")
