"""Memos that bind a transfer to a challenge, as a public SDK writes them."""

from hypothesis import given
from hypothesis import strategies as st
from mpp.methods.tempo import attribution

from services.payment.mpp.transfers import is_bound

NAMES = st.text(min_size=1, max_size=40)


@given(challenge_id=NAMES, realm=NAMES, client=st.none() | NAMES)
def test_memo_of_the_public_sdk_is_bound_to_its_challenge_and_server(
    challenge_id: str, realm: str, client: str | None
) -> None:
    memo = attribution.encode(challenge_id, realm, client)

    assert is_bound(memo, realm=realm, challenge_id=challenge_id)
    assert not is_bound(memo, realm=f"{realm}.", challenge_id=challenge_id)
    assert not is_bound(memo, realm=realm, challenge_id=f"{challenge_id}.")


def test_any_other_memo_is_bound_to_nothing() -> None:
    for memo in ("0x" + "00" * 32, "0x" + "ff" * 32, "0x"):
        assert not is_bound(memo, realm="r", challenge_id="c")
