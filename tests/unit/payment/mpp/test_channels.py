"""What a channel allows: states, vouchers in order, amounts rounded in the house's favour never."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.payment.mpp.channels import Channel, headroom, required, spent
from services.payment.mpp.payloads import Descriptor
from services.payment.mpp.problems import PaymentError, Slug
from services.payment.mpp.states import ChannelState

ADDRESS, WORD = "0x" + "11" * 20, "0x" + "22" * 32
DESCRIPTOR = Descriptor(ADDRESS, ADDRESS, ADDRESS, ADDRESS, WORD, ADDRESS, WORD)
CHANNEL = Channel(
    channel_id=WORD,
    descriptor=DESCRIPTOR,
    open_tx_hash=WORD,
    state=ChannelState.OPEN,
    deposit=1_000,
    accepted=500,
    settled=200,
)


def _slug(channel: Channel, cumulative: int, *, delta_min: int = 1) -> Slug:
    with pytest.raises(PaymentError) as caught:
        channel.raised(cumulative, delta_min=delta_min)
    return caught.value.slug


@pytest.mark.parametrize(
    ("state", "slug"),
    [
        (ChannelState.OPENING, Slug.CHANNEL_NOT_FOUND),
        (ChannelState.FAILED, Slug.CHANNEL_NOT_FOUND),
        (ChannelState.PAYER_CLOSING, Slug.CHANNEL_FINALIZED),
        (ChannelState.CLOSING, Slug.CHANNEL_FINALIZED),
        (ChannelState.CLOSED, Slug.CHANNEL_FINALIZED),
    ],
)
def test_only_an_open_channel_sells(state: ChannelState, slug: Slug) -> None:
    with pytest.raises(PaymentError) as caught:
        replace(CHANNEL, state=state).check_usable()

    assert slug == caught.value.slug
    CHANNEL.check_usable()


def test_voucher_raises_by_the_difference_up_to_the_deposit() -> None:
    assert 0 == CHANNEL.raised(500, delta_min=1)
    assert 1 == CHANNEL.raised(501, delta_min=1)
    assert 500 == CHANNEL.raised(1_000, delta_min=1)


def test_voucher_above_the_deposit_says_what_to_add() -> None:
    with pytest.raises(PaymentError) as caught:
        CHANNEL.raised(1_234, delta_min=1)

    assert Slug.AMOUNT_EXCEEDS_DEPOSIT == caught.value.slug
    assert {"requiredTopUp": "234"} == caught.value.metadata


def test_lower_voucher_and_small_steps_are_refused() -> None:
    assert Slug.VERIFICATION_FAILED == _slug(CHANNEL, 499)
    assert Slug.VERIFICATION_FAILED == _slug(CHANNEL, 150)
    assert Slug.DELTA_TOO_SMALL == _slug(CHANNEL, 549, delta_min=50)
    assert 50 == CHANNEL.raised(550, delta_min=50)


def test_descriptor_of_another_channel_is_refused() -> None:
    CHANNEL.check_descriptor(DESCRIPTOR)

    with pytest.raises(PaymentError):
        CHANNEL.check_descriptor(replace(DESCRIPTOR, salt="0x" + "33" * 32))


def test_voucher_is_not_shown_where_a_channel_is_printed() -> None:
    assert "signature" not in repr(replace(CHANNEL, signature=b"canary"))


@given(accepted=st.integers(0, 2**40), spent_nusd=st.integers(0, 2**50), held=st.integers(0, 2**50))
def test_headroom_and_spent_never_exceed_what_was_accepted(
    accepted: int, spent_nusd: int, held: int
) -> None:
    available = accepted * 1_000 - spent_nusd - held
    if available < 0:
        return

    assert headroom(available) + spent(spent_nusd + held) <= accepted


@given(accepted=st.integers(0, 2**40), missing=st.integers(1, 2**50))
def test_required_covers_what_is_missing_and_not_a_unit_more(accepted: int, missing: int) -> None:
    more = required(accepted, missing_nusd=missing) - accepted

    assert (more - 1) * 1_000 < missing <= more * 1_000
