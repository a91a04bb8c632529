"""Which credential a request's headers carry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.credentials import NoKeyError
from gateway.machine.headers import BESIDE, Sent, sent, sent_beside, sole_key
from kit.errors import Reason, TurnpikeError

TOKEN = st.text("ABCabc012-_", min_size=1, max_size=40)
KEY = "sk-tp-secret"


def headers(*values: str, **more: str) -> CIMultiDict[str]:
    return CIMultiDict([*(("Authorization", value) for value in values), *more.items()])


@given(TOKEN, st.sampled_from(["Payment", "payment", "PAYMENT"]), st.sampled_from([" ", "  "]))
def test_credential_is_taken_as_it_came(token: str, scheme: str, gap: str) -> None:
    found = sent(headers(f"{scheme}{gap}{token}"))

    assert found == Sent(token)


def test_hints_come_along() -> None:
    more = {"Accept-Payment": "tempo/session", "Payment-Session": "0x1", "Idempotency-Key": "k"}

    found = sent(headers("Payment abc", **more))

    assert found == Sent("abc", "", "tempo/session", "0x1", "k")


@pytest.mark.parametrize("values", [(), ("Payment",), ("Payment  ",)])
def test_nothing_to_pay_with_asks_for_a_challenge(values: tuple[str, ...]) -> None:
    assert sent(headers(*values)) == Sent("")


@pytest.mark.parametrize("value", ["Bearer x", "Basic x", "x", "Paymentx y", "Bearer"])
def test_what_is_no_payment_is_left_to_others(value: str) -> None:
    assert sent(headers(value)) is None


@pytest.mark.parametrize(
    "found",
    [
        headers("Payment a", "Payment b"),
        headers("Payment a, Payment b"),
        headers("Payment a, Bearer b"),
        headers("Bearer b", "Payment a"),
        headers("Payment a", **{"x-api-key": KEY}),
    ],
)
def test_several_are_refused(found: CIMultiDict[str]) -> None:
    with pytest.raises(TurnpikeError) as refused:
        sent(found)

    assert Reason.BAD_REQUEST is refused.value.reason


@pytest.mark.parametrize(
    "found",
    [
        headers(f"Bearer {KEY}", "Payment a"),
        headers("Payment a", f"Bearer {KEY}"),
        headers(f"Bearer {KEY}, Payment a"),
    ],
)
def test_key_with_a_payment_is_refused(found: CIMultiDict[str]) -> None:
    with pytest.raises(TurnpikeError) as refused:
        sole_key(found)

    assert Reason.BAD_REQUEST is refused.value.reason


def test_key_alone_is_the_key() -> None:
    assert KEY == sole_key(headers(f"Bearer {KEY}"))
    assert KEY == sole_key(headers(f"Bearer {KEY}", f"Bearer {KEY}x"))
    assert KEY == sole_key(headers(**{"x-api-key": KEY}))


@pytest.mark.parametrize("found", [headers(), headers("Payment a"), headers("Basic a")])
def test_no_key_is_said_as_such(found: CIMultiDict[str]) -> None:
    with pytest.raises(NoKeyError):
        sole_key(found)


def test_credential_beside_a_key_names_its_header() -> None:
    found = sent_beside(headers("Bearer x", **{BESIDE: "Payment abc"}))

    assert found == Sent("abc", BESIDE)


@pytest.mark.parametrize("value", ["Bearer x", "", "Payment a, Payment b"])
def test_beside_is_a_payment_and_only_one(value: str) -> None:
    with pytest.raises(TurnpikeError) as refused:
        sent_beside(headers("Bearer x", **{BESIDE: value}))

    assert Reason.BAD_REQUEST is refused.value.reason


def test_credential_does_not_show_in_a_repr() -> None:
    assert "canary" not in repr(Sent("canary-5f3a"))
