"""pympp reads what we write and writes what we read: challenges, credentials and receipts."""

import json
from datetime import UTC, datetime
from typing import Any

import mpp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.payment.mpp.challenge import (
    Challenge,
    Offer,
    header_value,
    is_ours,
    issue,
    read_challenges,
)
from services.payment.mpp.credential import Credential, credential_value, read_credential
from services.payment.mpp.receipts import ChargeReceipt, SessionReceipt, read_receipt

SECRET = "a secret of at least sixteen bytes"
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=24)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789._-", min_size=1, max_size=16)
VALUES = st.recursive(
    TEXTS | st.integers(-(2**53) + 1, 2**53 - 1) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
REQUESTS = st.dictionaries(TEXTS, VALUES, min_size=1, max_size=5)
REALMS = TEXTS.map(lambda text: text.replace("|", "/").strip() or "realm")
OFFERS = st.builds(
    Offer,
    realm=REALMS,
    method=st.sampled_from(["tempo", "stripe", "vendor:one-2"]),
    intent=st.sampled_from(["session", "charge"]),
    request=REQUESTS,
    memo=st.dictionaries(NAMES.filter(lambda name: name != "nonce"), TEXTS, max_size=3),
    description=TEXTS | st.just(""),
    header=st.sampled_from(["", "Payment-Authorization"]),
)
TIMES = st.integers(0, 253_402_300_799)
PAYLOADS = st.dictionaries(NAMES, VALUES, max_size=5)


@given(OFFERS, TIMES, NAMES)
def test_pympp_takes_our_challenges(offer: Offer, unix_s: int, nonce: str) -> None:
    ours = issue(SECRET, offer, expires_unix_s=unix_s, nonce=nonce)

    theirs = mpp.Challenge.from_www_authenticate(header_value(ours))

    assert theirs.verify(SECRET, ours.realm)
    assert offer.request == theirs.request
    assert {**offer.memo, "nonce": nonce} == theirs.opaque
    assert (ours.realm, ours.description or None) == (theirs.realm, theirs.description)
    assert [ours] == read_challenges(theirs.to_www_authenticate(ours.realm))


@given(OFFERS, TIMES, st.sampled_from(["", "sha-256=C/zx+A="]))
def test_pympps_challenges_are_ours_with_its_secret(offer: Offer, unix_s: int, digest: str) -> None:
    theirs = mpp.Challenge.create(
        secret_key=SECRET,
        realm=offer.realm,
        method=offer.method,
        intent=offer.intent,
        request=dict(offer.request),
        expires=datetime.fromtimestamp(unix_s, UTC).isoformat(),
        digest=digest or None,
        description=offer.description or None,
        meta=dict(offer.memo) or None,
        header=offer.header or None,
    )

    (ours,) = read_challenges(theirs.to_www_authenticate(offer.realm))

    assert theirs.id == ours.id
    assert is_ours(ours, ["another", SECRET])
    assert not is_ours(ours, ["another"])
    assert theirs.request == ours.request
    assert (theirs.opaque or {}) == ours.opaque
    assert offer.description == ours.description
    assert ours.is_expired(unix_s)
    assert not ours.is_expired(unix_s - 1)


@given(OFFERS.filter(lambda offer: f"{offer.realm}{offer.description}".isascii()), TIMES)
def test_headers_in_ascii_are_the_same_bytes(offer: Offer, unix_s: int) -> None:
    ours = issue(SECRET, offer, expires_unix_s=unix_s, nonce="n")
    theirs = mpp.Challenge.from_www_authenticate(header_value(ours))

    assert theirs.to_www_authenticate(ours.realm) == header_value(ours)


@given(OFFERS, PAYLOADS, TEXTS | st.just(""))
def test_pympp_takes_our_credentials(offer: Offer, payload: dict[str, Any], source: str) -> None:
    challenge = issue(SECRET, offer, expires_unix_s=0, nonce="n")
    ours = Credential(challenge=challenge, payload=payload, source=source)

    theirs = mpp.Credential.from_authorization(f"Payment {credential_value(ours)}")

    assert (payload, source or None) == (theirs.payload, theirs.source)
    assert challenge.request_b64 == theirs.challenge.request
    assert ours == read_credential(theirs.to_authorization().removeprefix("Payment "))


@given(OFFERS, PAYLOADS, TEXTS | st.just(""))
def test_pympps_credentials_are_read(offer: Offer, payload: dict[str, Any], source: str) -> None:
    challenge = mpp.Challenge.create(
        secret_key=SECRET,
        realm=offer.realm,
        method=offer.method,
        intent=offer.intent,
        request=dict(offer.request),
        expires="2027-01-15T12:05:00Z",
        meta=dict(offer.memo) or None,
        header=offer.header or None,
    )
    theirs = mpp.Credential(challenge.to_echo(), payload, source or None)

    ours = read_credential(theirs.to_authorization().removeprefix("Payment "))

    assert is_ours(ours.challenge, [SECRET])
    assert (payload, source) == (ours.payload, ours.source)


@given(TEXTS, TEXTS, st.integers(0, 2**96 - 1), st.integers(0, 2**96 - 1), TIMES)
def test_pympp_reads_our_receipts(
    challenge_id: str, reference: str, accepted: int, spent: int, unix_s: int
) -> None:
    session = SessionReceipt(challenge_id, reference, accepted, spent, unix_s, unit_count=5)
    charge = ChargeReceipt(challenge_id, reference, unix_s, external_id="order")

    for ours in (session, charge):
        theirs = mpp.Receipt.from_payment_receipt(ours.as_header())

        assert (reference, "success", "tempo") == (theirs.reference, theirs.status, theirs.method)
        assert unix_s == int(theirs.timestamp.timestamp())
        assert json.loads(ours.as_json()) == read_receipt(theirs.to_payment_receipt())


@given(TEXTS, TIMES, NAMES)
def test_pympps_receipts_are_read(reference: str, unix_s: int, external_id: str) -> None:
    moment = datetime.fromtimestamp(unix_s, UTC)
    theirs = mpp.Receipt.success(reference, timestamp=moment, external_id=external_id)

    found = read_receipt(theirs.to_payment_receipt())

    assert (reference, external_id) == (found["reference"], found["externalId"])


@pytest.mark.parametrize("part", ["request_b64", "opaque_b64", "realm", "expires", "id"])
def test_failure_36_both_refuse_the_same_forgery(part: str) -> None:
    offer = Offer("realm", "tempo", "charge", {"amount": "5"}, memo={"a": "b"})
    ours = issue(SECRET, offer, expires_unix_s=5, nonce="n")
    other = issue(
        "another", Offer("x", "tempo", "charge", {"amount": "1"}), expires_unix_s=6, nonce="m"
    )
    members = {name: getattr(ours, name) for name in Challenge.__slots__}
    forged = Challenge(**members | {part: getattr(other, part)})

    assert not is_ours(forged, [SECRET])
    assert not mpp.Challenge.from_www_authenticate(header_value(forged)).verify(
        SECRET, forged.realm
    )
