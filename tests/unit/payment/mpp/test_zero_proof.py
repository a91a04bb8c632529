"""Proofs of nothing paid, against eth-account and the recorded challenge."""

import pytest
from eth_account import Account
from eth_account.messages import SignableMessage, encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from services.payment.mpp.challenge import is_ours, read_challenges
from services.payment.mpp.problems import PaymentError, Slug
from services.payment.mpp.zero_proof import check_proof, proof_digest
from tests.unit.payment.mpp.vectors import CHAIN_ID, PAYEE, PAYER, SECRET, VECTORS

PROOF = VECTORS["proof_zero_charge"]
ID = PROOF["challenge_id"]
SOURCE = f"did:pkh:eip155:{CHAIN_ID}:{PAYER['address']}"


def message(challenge_id: str, chain_id: int) -> SignableMessage:
    typed = PROOF["typed_data_spec"]
    return encode_typed_data(
        {**typed["domain"], "chainId": chain_id}, typed["types"], {"challengeId": challenge_id}
    )


def signature(challenge_id: str = ID, chain_id: int = CHAIN_ID) -> bytes:
    signed = Account.sign_message(message(challenge_id, chain_id), PAYER["private_key"])
    return bytes(signed.signature)


def test_the_recorded_challenge_is_ours_and_its_proof_is_taken() -> None:
    (challenge,) = read_challenges(PROOF["www_authenticate"])

    assert ID == challenge.id
    assert is_ours(challenge, [SECRET])
    assert "0" == challenge.request["amount"]
    assert PAYER["address"] == check_proof(
        signature(), challenge_id=challenge.id, chain_id=CHAIN_ID, source=SOURCE
    )


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 2**53 - 1))
def test_eth_account_signs_the_same_digest(challenge_id: str, chain_id: int) -> None:
    signed = Account.sign_message(message(challenge_id, chain_id), PAYER["private_key"])

    assert signed.message_hash == proof_digest(challenge_id, chain_id)


@pytest.mark.parametrize(
    ("proof", "source"),
    [
        (signature("another id"), SOURCE),
        (signature(chain_id=4217), SOURCE),
        (signature(), f"did:pkh:eip155:4217:{PAYER['address']}"),
        (signature(), f"did:pkh:eip155:{CHAIN_ID}:{PAYEE['address']}"),
        (signature(), PAYER["address"]),
        (signature(), ""),
        (signature()[:64], SOURCE),
        (signature()[:64] + b"\x00", SOURCE),
        (b"", SOURCE),
    ],
)
def test_a_proof_of_something_else_is_refused(proof: bytes, source: str) -> None:
    with pytest.raises(PaymentError) as refused:
        check_proof(proof, challenge_id=ID, chain_id=CHAIN_ID, source=source)

    assert Slug.VERIFICATION_FAILED is refused.value.slug
