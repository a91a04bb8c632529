"""The grammar of WWW-Authenticate: other schemes, odd spacing, escapes and what is no header."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.payment.mpp.auth_params import HEADER_CHARS_MAX, quoted, schemes
from services.payment.mpp.challenge import read_challenges
from tests.unit.payment.mpp.vectors import CHALLENGES

HEADER = CHALLENGES[4]["www_authenticate"]


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("", []),
        (" , ,", []),
        ("Basic", [("Basic", [])]),
        ("Basic realm=x", [("Basic", [("realm", "x")])]),
        ("Negotiate YWJj==, Basic", [("Negotiate", []), ("Basic", [])]),
        ('A b = "c" ,d="e"', [("A", [("b", "c"), ("d", "e")])]),
        ('A b="c", B, C d=e', [("A", [("b", "c")]), ("B", []), ("C", [("d", "e")])]),
        ('A b="x, C d=e"', [("A", [("b", "x, C d=e")])]),
        (r'A b="\"\\\,"', [("A", [("b", '"\\,')])]),
        (r'A b="\u2013\uD83D\uDE00\\u2013"', [("A", [("b", "–😀\\u2013")])]),  # noqa: RUF001
        ('A B="c"', [("A", [("b", "c")])]),
        ('A b=""', [("A", [("b", "")])]),
        ("A b=", [("A", [])]),
    ],
)
def test_challenges_and_parameters(header: str, found: list[object]) -> None:
    assert found == schemes(header)


@pytest.mark.parametrize(
    "header",
    [
        'A b="c',
        'A b="c" d="e"',
        'A b="c"; d="e"',
        "=",
        '"x"',
        "A b=,=",
        "A b=c d",
        "A B c=d",
        'b="c"',
        'A b="c"d="e"',
        "A: b",
        "Ä b=c",
        r'A b="\ud83d"',
        r'A b="\udc00"',
        "A b=c\n",
        "A" + " " * HEADER_CHARS_MAX,
    ],
)
def test_what_is_no_list_of_challenges_is_refused(header: str) -> None:
    with pytest.raises(ValueError, match=r"Header|decode|utf-16"):
        schemes(header)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_a_quoted_string_comes_back(text: str) -> None:
    assert [("A", [("b", text)])] == schemes(f"A b={quoted(text)}")


def test_payment_challenges_are_picked_from_among_others() -> None:
    line = f'Bearer realm="x", {HEADER}, Negotiate YWJj=, {HEADER.replace("Payment", "pAYMENT")}'

    assert read_challenges(HEADER) * 2 == read_challenges(line)
    assert [] == read_challenges('Bearer realm="x"')


@pytest.mark.parametrize("name", ["id", "realm", "method", "intent", "request"])
def test_a_challenge_without_a_needed_parameter_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"lacks `{name}`"):
        read_challenges(HEADER.replace(f"{name}=", f"x-{name}="))


@pytest.mark.parametrize(
    "header",
    [
        HEADER + ', id="again"',
        HEADER + ', ID="again"',
        "Payment YWJj",
        "Payment",
        HEADER.replace('request="', 'request="='),
        HEADER.replace('opaque="', 'opaque="W10'),
    ],
)
def test_a_broken_payment_challenge_is_refused(header: str) -> None:
    with pytest.raises(ValueError, match=r"twice|lacks|base64url|JSON"):
        read_challenges(header)


@given(st.text('Payment ab="\\u0041,=;\t', max_size=40))
def test_any_text_is_read_or_refused(header: str) -> None:
    try:
        found = schemes(header)
    except ValueError:
        return
    assert all(scheme for scheme, _ in found)
