"""Challenges: ids, headers, expiry and rotation; the recorded ones of two SDKs, and forgeries."""

import string
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.payment.mpp.challenge import (
    CHALLENGE_BYTES_MAX,
    NONCE_KEY,
    Challenge,
    Offer,
    bind,
    header_value,
    is_ours,
    issue,
    read_challenges,
)
from services.payment.mpp.encoding import encode_object
from services.payment.mpp.problems import PaymentError, Slug
from tests.unit.payment.mpp.vectors import CHALLENGES, SECRET, VECTORS

ROWS = {row["name"]: row for row in CHALLENGES}
EXPIRES_UNIX_S = 1_800_014_700
OFFER = Offer(
    realm="api.turnpike.test",
    method="tempo",
    intent="session",
    request=ROWS["session_plain"]["request"],
    memo={"resource": "POST /v1/chat/completions tiny-chat"},
    description="One request",
)


def recorded(row: dict[str, Any]) -> Challenge:
    return Challenge(
        id=row["id"],
        realm=row["realm"],
        method=row["method"],
        intent=row["intent"],
        request_b64=row["request_b64"],
        expires=row.get("expires", ""),
        digest=row.get("digest", ""),
        description=row.get("description", ""),
        opaque_b64=row["opaque_b64"] or "",
        header=row.get("header", ""),
    )


def issued(**changes: Any) -> Challenge:
    return issue(SECRET, replace(OFFER, **changes), expires_unix_s=EXPIRES_UNIX_S, nonce="n-1")


@pytest.mark.parametrize("name", ROWS)
def test_a_recorded_challenge_is_ours(name: str) -> None:
    row = ROWS[name]
    challenge = recorded(row)

    assert challenge == bind(row["secret"], replace(challenge, id=""))
    assert is_ours(challenge, [row["secret"]]) is row["verifies"]
    assert row["request_b64"] == encode_object(row["request"])
    assert row["request"] == challenge.request
    assert row.get("meta", {}) == challenge.opaque


@pytest.mark.parametrize("name", ROWS)
def test_a_recorded_header_is_read_and_written(name: str) -> None:
    row = ROWS[name]
    challenge = recorded(row)

    assert [challenge] == read_challenges(row["www_authenticate"])
    assert [challenge] == read_challenges(header_value(challenge))
    assert header_value(challenge) == row.get("www_authenticate_pympp", row["www_authenticate"])


def test_a_line_of_several_challenges_is_read_in_order() -> None:
    row = VECTORS["multi_challenge_header"]

    found = read_challenges(row["www_authenticate"])

    assert row["parsed_order"] == [f"{one.method}/{one.intent}" for one in found]
    assert all(is_ours(one, [SECRET]) for one in found)


def test_an_issued_challenge_binds_its_offer() -> None:
    challenge = issued()

    assert is_ours(challenge, [SECRET])
    assert OFFER.request == challenge.request
    assert {**OFFER.memo, NONCE_KEY: "n-1"} == challenge.opaque
    assert "2027-01-15T12:05:00Z" == challenge.expires
    assert "" == challenge.digest
    assert [challenge] == read_challenges(header_value(challenge))


def test_failure_36_either_secret_of_a_rotation_is_taken() -> None:
    old = issue("old", OFFER, expires_unix_s=EXPIRES_UNIX_S, nonce="n")
    new = issue("new", OFFER, expires_unix_s=EXPIRES_UNIX_S, nonce="n")

    assert is_ours(old, ["new", "old"])
    assert is_ours(new, ["new", "old"])
    assert not is_ours(old, ["new"])
    assert not is_ours(old, [])


def test_failure_36_two_replicas_with_one_secret_take_each_others_challenges() -> None:
    assert issued() == issued()
    assert is_ours(read_challenges(header_value(issued()))[0], ["x", SECRET])


def test_failure_36_challenges_of_the_same_second_differ_by_their_nonce() -> None:
    nonces = [str(number) for number in range(50)]
    made = [issue(SECRET, OFFER, expires_unix_s=EXPIRES_UNIX_S, nonce=nonce) for nonce in nonces]

    assert len(nonces) == len({challenge.id for challenge in made})


@pytest.mark.parametrize(
    ("now_unix_s", "is_late"),
    [(0, False), (EXPIRES_UNIX_S - 1, False), (EXPIRES_UNIX_S, True), (EXPIRES_UNIX_S + 1, True)],
)
def test_failure_36_a_challenge_is_over_at_its_end(now_unix_s: int, is_late: bool) -> None:
    assert is_late is issued().is_expired(now_unix_s)


@pytest.mark.parametrize("expires", ["", "tomorrow", "2027-01-15", "1800014700"])
def test_failure_36_a_challenge_without_a_readable_end_is_over(expires: str) -> None:
    assert replace(issued(), expires=expires).is_expired(0)


@pytest.mark.parametrize(
    "part", [field.name for field in fields(Challenge) if field.name != "description"]
)
def test_failure_36_a_tampered_part_is_found(part: str) -> None:
    challenge = issued(header="Payment-Authorization")
    text = getattr(challenge, part)
    turned = text[:-1] + ("A" if text[-1:] != "A" else "B") if text else "sha-256=A"

    assert not is_ours(replace(challenge, **{part: turned}), [SECRET])
    assert not is_ours(replace(challenge, **{part: text + "|"}), [SECRET])
    if part != "digest":
        assert not is_ours(replace(challenge, **{part: ""}), [SECRET])


def test_failure_36_other_price_terms_make_another_id() -> None:
    cheap = issued(request={**OFFER.request, "amount": "1"})

    assert not is_ours(replace(issued(), request_b64=cheap.request_b64), [SECRET])
    assert not is_ours(replace(cheap, id=issued().id), [SECRET])


def test_failure_36_parts_cannot_be_moved_between_slots() -> None:
    challenge = issued()
    moved = replace(
        challenge,
        realm=f"{challenge.realm}|{challenge.method}",
        method=challenge.intent,
        intent=challenge.request_b64,
        request_b64=challenge.expires,
        expires="",
        digest="",
    )
    hidden = replace(issued(header="X-Pay"), header="", digest="|X-Pay")

    assert not is_ours(moved, [SECRET])
    assert not is_ours(hidden, [SECRET])


def test_the_description_is_not_bound() -> None:
    assert is_ours(replace(issued(), description="Another"), [SECRET])


def test_authorization_is_not_named_as_the_field() -> None:
    assert "" == issued(header="Authorization").header
    assert issued() == issued(header="authorization")
    assert "Payment-Authorization" == issued(header="Payment-Authorization").header


@pytest.mark.parametrize(
    "changes",
    [
        {"realm": "a|b"},
        {"realm": ""},
        {"method": ""},
        {"intent": ""},
        {"intent": "a|b"},
        {"header": "X|Y"},
        {"request": {"amount": 0.5}},
        {"request": {"amount": "\ud800"}},
        {"memo": {NONCE_KEY: "mine"}},
    ],
)
def test_an_offer_that_cannot_be_bound_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        issued(**changes)


def test_empty_secrets_and_nonces_are_refused() -> None:
    with pytest.raises(ValueError, match="secret"):
        issue("", OFFER, expires_unix_s=EXPIRES_UNIX_S, nonce="n")
    with pytest.raises(ValueError, match="Nonce"):
        issue(SECRET, OFFER, expires_unix_s=EXPIRES_UNIX_S, nonce="")
    with pytest.raises(ValueError, match="secret"):
        is_ours(issued(), [SECRET, ""])


def test_a_challenge_is_smaller_than_8_kb() -> None:
    room = CHALLENGE_BYTES_MAX - len(header_value(issued(description="x"))) + 1

    assert CHALLENGE_BYTES_MAX == len(header_value(issued(description="x" * room)))
    assert CHALLENGE_BYTES_MAX < 8 * 1024
    with pytest.raises(ValueError, match="at most 8191 fit"):
        header_value(issued(description="x" * (room + 1)))


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60))
def test_any_description_comes_back_through_ascii(description: str) -> None:
    challenge = issued(description=description)
    value = header_value(challenge)

    assert value.isascii()
    assert set(value) <= set(string.printable) - set("\r\n\t\v\f")
    assert [challenge] == read_challenges(value)


@pytest.mark.parametrize("text", ["a\r\nSet-Cookie: x", "a\n", "\0", "\x7f", "\t"])
def test_control_characters_are_not_written(text: str) -> None:
    with pytest.raises(ValueError, match="control"):
        header_value(issued(description=text))


def test_texts_that_do_not_decode_are_named() -> None:
    for part, text in (("request_b64", "e30="), ("request_b64", "W10"), ("opaque_b64", "%")):
        with pytest.raises(PaymentError) as refused:
            _ = (made := replace(issued(), **{part: text})).request, made.opaque
        assert Slug.MALFORMED_CREDENTIAL is refused.value.slug
        assert f"`challenge.{part[:-4]}`" in refused.value.message
    with pytest.raises(PaymentError, match="no string"):
        _ = replace(issued(), opaque_b64=encode_object({"a": 1})).opaque
