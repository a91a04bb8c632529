"""Draws that follow from a seed."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.router.chance import Chance, mixed, name_hash, sticky_seed


def test_splitmix64_draws_what_its_authors_list() -> None:
    """The first outputs for the seed 1234567, as Rosetta Code's entry for SplitMix64 lists them."""
    chance = Chance(1234567)

    drawn = [chance.below(2**64) for _ in range(5)]

    assert drawn == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@given(st.integers(0, 2**64 - 1), st.integers(2, 60))
def test_draws_are_in_range_and_two_are_different(seed: int, count: int) -> None:
    one, again = Chance(seed), Chance(seed)

    assert 0 <= one.below(count) < count
    again.below(count)
    pair = one.two_of(count)
    assert pair == again.two_of(count)
    assert pair[0] != pair[1]
    assert all(0 <= each < count for each in pair)


def test_pairs_are_equally_likely() -> None:
    drawn = Counter(frozenset(Chance(mixed(seed)).two_of(4)) for seed in range(6_000))

    assert len(drawn) == 6
    assert all(850 < count < 1_150 for count in drawn.values())


def test_names_and_keys_stand_apart() -> None:
    assert len({name_hash(f"p{n}") for n in range(1_000)}) == 1_000
    assert sticky_seed("a", "b") != sticky_seed("ab", "")
    assert len(sticky_seed("a", "b")) == 8
