"""Months and lines of invoices: they add up, whatever was posted when."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.payment.ledger import Kind
from services.payment.stripe.invoices import (
    DAY_MS,
    DaySum,
    Line,
    bounds_of,
    lines_of,
    months,
    period_of,
)

NOW_MS = 1_760_000_000_000  # 2025-10-09


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ("2026-11", (2026, 11), (2026, 12)),
        ("2026-12", (2026, 12), (2027, 1)),
        ("1970-01", (1970, 1), (1970, 2)),
        ("2999-12", (2999, 12), (3000, 1)),
    ],
)
def test_month_has_its_bounds_in_utc(
    period: str, start: tuple[int, int], end: tuple[int, int]
) -> None:
    found = bounds_of(period)

    assert found == tuple(
        int(datetime(*each, 1, tzinfo=UTC).timestamp()) * 1000 for each in (start, end)
    )
    assert found is not None
    assert (period, period) == (period_of(found[0]), period_of(found[1] - 1))


@pytest.mark.parametrize(
    "period", ["", "2026", "2026-13", "2026-00", "26-11", "2026-11-01", "202\uff16-11", "../x"]
)
def test_what_is_no_month_has_no_bounds(period: str) -> None:
    assert bounds_of(period) is None


SUMS = st.lists(
    st.builds(
        DaySum,
        st.integers(0, NOW_MS // DAY_MS),
        st.sampled_from([kind.value for kind in Kind]),
        st.integers(-(10**12), 10**12),
    ),
    max_size=40,
)


@given(sums=SUMS)
def test_months_follow_on_each_other_and_end_with_everything(sums: list[DaySum]) -> None:
    found = months(sums, now_ms=NOW_MS)

    opening = 0
    for invoice in found:
        assert opening == invoice.opening_nusd
        assert invoice.closing_nusd == opening + sum(invoice.by_kind.values())
        opening = invoice.closing_nusd
    assert opening == sum(each.amount_nusd for each in sums)
    assert sorted(each.period for each in found) == [each.period for each in found]
    assert [] == [each for each in found if not each.is_final and each.period < "2025-10"]


@given(
    amounts=st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 1_000)), max_size=20),
    shown=st.integers(0, 20),
)
def test_postings_that_are_not_shown_one_by_one_are_grouped(
    amounts: list[tuple[str, int]], shown: int
) -> None:
    singles = [
        Line("credit", f"funding:{source}", f"r{number}", 1, amount, 1)
        for number, (source, amount) in enumerate(amounts)
    ]
    groups = [
        Line(
            "credit",
            f"funding:{source}",
            "",
            sum(one.subject[-1] == source for one in singles),
            sum(one.amount_nusd for one in singles if one.subject[-1] == source),
            0,
        )
        for source in sorted({source for source, _ in amounts})
    ]
    charges = [Line("settlement", "m", "", 3, -7, 0)]

    lines = lines_of(charges, groups, singles[:shown])

    assert sum(each.amount_nusd for each in lines) == sum(a for _, a in amounts) - 7
    assert sum(each.count for each in lines) == len(amounts) + 3
    assert ("charge", "m") == (lines[-1].kind, lines[-1].subject)
    assert {each.subject for each in lines[:-1]} <= {"a", "b"}
