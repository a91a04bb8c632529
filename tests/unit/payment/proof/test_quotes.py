"""Quotes: what was signed is read back, and nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import Reason, TurnpikeError
from services.payment.proof import signing
from services.payment.proof.quotes import QUOTE_CHARS_MAX, Quote, read_quote, sign_quote
from services.payment.proof.signing import Signer, public_key_of, seed_of
from tests.unit.payment.proof.bill_rig import KEYS, SEED, SIGNER

GOOD = Quote("quote-1", "a", "tiny", 1_000, SIGNER.key_id, 1, 2, 3, 4, "image")


def read(
    quote_id: str, *, account_id: str = "a", model_id: str = "tiny", now_ms: int = 999
) -> Quote:
    return read_quote(quote_id, KEYS, account_id=account_id, model_id=model_id, now_ms=now_ms)


def test_quote_is_read_back() -> None:
    quote_id = sign_quote(GOOD, SIGNER)

    assert GOOD == read(quote_id)
    assert len(quote_id) < 512


@given(st.integers(0, 400), st.sampled_from("AZaz09-_.="))
def test_quote_with_a_changed_character_is_refused(at: int, other: str) -> None:
    quote_id = sign_quote(GOOD, SIGNER)
    at %= len(quote_id)
    changed = quote_id[:at] + other + quote_id[at + 1 :]
    if changed == quote_id:
        return

    with pytest.raises(TurnpikeError) as refused:
        read(changed)

    assert (Reason.INVALID_VALUE, "X-Quote-Id") == (
        refused.value.reason,
        refused.value.metadata["param"],
    )


@pytest.mark.parametrize(
    "text", ["", "q1..", "q1.a.b", "x" * (QUOTE_CHARS_MAX + 1), "q1." + "AA" * 9]
)
def test_what_is_no_quote_is_refused(text: str) -> None:
    with pytest.raises(TurnpikeError, match="is no quote of this service"):
        read(text)


def test_quote_of_another_key_and_signature_of_another_purpose_are_refused() -> None:
    foreign = sign_quote(GOOD, Signer(bytes(32)))
    head, data, _ = sign_quote(GOOD, SIGNER).split(".")
    as_root = signing.base64url(SIGNER.sign(signing.ROOT, signing.from_base64url(data)))

    for quote_id in (foreign, f"{head}.{data}.{as_root}"):
        with pytest.raises(TurnpikeError, match="is no quote of this service"):
            read(quote_id)


def test_quote_holds_for_its_account_its_model_and_its_time() -> None:
    quote_id = sign_quote(GOOD, SIGNER)

    with pytest.raises(TurnpikeError, match="was made to another account"):
        read(quote_id, account_id="b")
    with pytest.raises(TurnpikeError, match="is for tiny, not large"):
        read(quote_id, model_id="large")
    with pytest.raises(TurnpikeError, match="is over since 2 seconds"):
        read(quote_id, now_ms=3_000)
    with pytest.raises(TurnpikeError, match="is over since 0 seconds"):
        read(quote_id, now_ms=1_000)


def test_keys_are_read_from_text() -> None:
    text = signing.base64url(SEED)

    assert SEED == seed_of(text)
    assert bytes.fromhex(SIGNER.public_key) == public_key_of(f" {SIGNER.public_key}\n")
    for bad in ("short", text + "AAAA", "é"):
        with pytest.raises(ValueError, match="signing key"):
            seed_of(bad)
    for bad in ("", "zz", "ab" * 31):
        with pytest.raises(ValueError, match="64 hexadecimal digits"):
            public_key_of(bad)
