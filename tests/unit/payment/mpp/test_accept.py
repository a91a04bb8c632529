"""Accept-Payment: order by weight, what is left out, and when the header is passed over."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.payment.mpp.accept import ACCEPT_CHARS_MAX, preferred

OFFERED = ["tempo/session", "tempo/charge", "stripe/charge"]
ENTRIES = st.tuples(
    st.sampled_from([*OFFERED, "tempo/*", "*/charge", "*/*", "evm/charge"]),
    st.sampled_from(["", ";q=0", ";q=0.000", ";q=1", ";q=1.000", ";q=0.5", "; q=0.25", ";q=0.001"]),
)


@pytest.mark.parametrize(
    ("header", "order"),
    [
        ("tempo/session", ["tempo/session"]),
        ("tempo/session, tempo/charge;q=0.5", ["tempo/session", "tempo/charge"]),
        ("tempo/session;q=0.5, tempo/charge", ["tempo/charge", "tempo/session"]),
        ("tempo/charge, tempo/session", ["tempo/session", "tempo/charge"]),
        ("tempo/charge;q=0.501,tempo/session ; q=0.5", ["tempo/charge", "tempo/session"]),
        ("tempo/session;q=0, tempo/charge", ["tempo/charge"]),
        ("tempo/session;Q=0.0, tempo/charge", ["tempo/charge"]),
        ("*/*", OFFERED),
        ("tempo/*", ["tempo/session", "tempo/charge"]),
        ("*/charge, tempo/*;q=0.1", ["stripe/charge", "tempo/session", "tempo/charge"]),
        ("tempo/session;q=0, */*", ["tempo/charge", "stripe/charge"]),
        ("evm/charge, tempo/charge;q=0.2", ["tempo/charge"]),
        ("tempo/charge, tempo/charge;q=0", ["tempo/charge"]),
        (", tempo/charge ,", ["tempo/charge"]),
        ("tempo/charge;q=0., tempo/session;q=1.", ["tempo/session"]),
    ],
)
def test_offers_are_ordered_and_filtered(header: str, order: list[str]) -> None:
    assert order == preferred(header, OFFERED)


@pytest.mark.parametrize(
    "header",
    [
        "",
        ",",
        "tempo",
        "tempo/session/x",
        "/session",
        "tempo/",
        "Tempo/session",
        "tempo/session;q",
        "tempo/charge;q=2",
        "tempo/charge;q=-0.5",
        "tempo/charge;q=0.1234",
        "tempo/charge;q=.5",
        "tempo/charge;q=1.1",
        "tempo/charge;q=1e0",
        "tempo/charge;q=0.5;x=y",
        "tempo/charge, %",
        "tempo/charge\n",
        "evm/charge",
        "tempo/session;q=0, tempo/charge;q=0, stripe/charge;q=0",
        "*/*;q=0",
        "tempo/charge," + " " * ACCEPT_CHARS_MAX,
    ],
)
def test_a_header_that_is_malformed_or_leaves_nothing_is_passed_over(header: str) -> None:
    assert OFFERED == preferred(header, OFFERED)


@given(st.lists(ENTRIES, max_size=6), st.permutations(OFFERED))
def test_something_is_always_offered_and_nothing_is_made_up(
    entries: list[tuple[str, str]], offered: list[str]
) -> None:
    found = preferred(", ".join(name + weight for name, weight in entries), offered)

    assert found
    assert set(found) <= set(offered)
    assert len(set(found)) == len(found)


@given(st.text(max_size=60))
def test_any_text_is_read(header: str) -> None:
    assert set(preferred(header, OFFERED)) <= set(OFFERED)
