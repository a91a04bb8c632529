"""Identifiers are UUIDs of the right version and grow."""

import uuid

from kit.ids import Uuid7Source, name_id


def test_ids_of_one_millisecond_grow_and_stay_version_seven() -> None:
    source = Uuid7Source()

    made = [source.new(1_760_000_000_000) for _ in range(10_000)]

    assert sorted(made) == made
    assert len(set(made)) == len(made)
    assert {7} == {uuid.UUID(i).version for i in made}
    assert {uuid.RFC_4122} == {uuid.UUID(i).variant for i in made}


def test_ids_keep_growing_when_the_clock_goes_back() -> None:
    source = Uuid7Source()

    first = source.new(1_760_000_000_000)
    second = source.new(1_759_999_000_000)

    assert first < second


def test_ids_carry_their_millisecond() -> None:
    made = Uuid7Source().new(1_760_000_000_123)

    assert 1_760_000_000_123 == uuid.UUID(made).int >> 80


def test_name_ids_are_stable_and_kinds_do_not_collide() -> None:
    assert name_id("deployment", "a") == name_id("deployment", "a")
    assert name_id("deployment", "a") != name_id("model", "a")
