"""Credentials: the recorded ones, and the corpus of what is refused before anything is trusted."""

import json
from typing import Any

import pytest

from services.payment.mpp.challenge import is_ours
from services.payment.mpp.credential import (
    CREDENTIAL_BYTES_MAX,
    Credential,
    credential_value,
    read_credential,
)
from services.payment.mpp.encoding import encode_base64url, write_json
from services.payment.mpp.problems import PaymentError, Slug
from tests.unit.payment.mpp.vectors import CREDENTIALS, SECRET, scheme_less

VALUE = scheme_less(CREDENTIALS["voucher"]["authorization"])
DECODED: dict[str, Any] = CREDENTIALS["voucher"]["decoded"]


def written(**changes: Any) -> str:
    return encode_base64url(write_json(DECODED | changes))


def with_challenge(**changes: Any) -> str:
    return written(challenge=DECODED["challenge"] | changes)


def refusal(value: str) -> PaymentError:
    with pytest.raises(PaymentError) as refused:
        read_credential(value)
    assert Slug.MALFORMED_CREDENTIAL is refused.value.slug
    return refused.value


@pytest.mark.parametrize("name", CREDENTIALS)
def test_a_recorded_credential_is_read(name: str) -> None:
    row = CREDENTIALS[name]
    decoded = row["decoded"]

    credential = read_credential(scheme_less(row["authorization"]))

    assert decoded["payload"] == credential.payload
    assert decoded["source"] == credential.source
    assert decoded["challenge"]["id"] == credential.challenge.id
    assert decoded["challenge"]["request"] == credential.challenge.request_b64
    assert decoded["challenge"].get("opaque", "") == credential.challenge.opaque_b64
    assert decoded["challenge"]["expires"] == credential.challenge.expires
    assert is_ours(credential.challenge, [SECRET])
    assert credential == read_credential(credential_value(credential))


def test_space_around_a_credential_is_passed_over() -> None:
    assert read_credential(VALUE) == read_credential(f" \t{VALUE} ")


def test_a_source_may_be_absent() -> None:
    members = {name: part for name, part in DECODED.items() if name != "source"}

    assert "" == read_credential(encode_base64url(write_json(members))).source


def test_unknown_members_are_passed_over() -> None:
    assert read_credential(VALUE) == read_credential(written(more={"a": [1]}))
    assert read_credential(VALUE) == read_credential(with_challenge(more="x"))


@pytest.mark.parametrize(
    "value",
    [
        "",
        "%%%",
        VALUE + "=",
        VALUE[:-3],
        VALUE[:40] + "\n" + VALUE[40:],
        VALUE + "Ä",
        "Payment " + VALUE,
        f"{VALUE}, {VALUE}",
        encode_base64url(b"not json"),
        encode_base64url(b"[]"),
        encode_base64url(b'"x"'),
        encode_base64url(b"null"),
        encode_base64url(b"{}"),
        encode_base64url(b"\xff\xfe"),
        encode_base64url(b'{"challenge":{},"challenge":{}}'),
        encode_base64url(b'{"challenge":' + b"[" * 20_000),
        encode_base64url(json.dumps(DECODED | {"source": "\ud800"}).encode()),
        encode_base64url(json.dumps(DECODED | {"payload": {"a": 0.5}}).encode()),
        encode_base64url(json.dumps(DECODED).replace('"realm"', '"id"').encode()),
        encode_base64url(json.dumps(DECODED).replace('"signature"', '"action"').encode()),
    ],
)
def test_failure_22_what_is_no_json_object_in_base64url_is_malformed(value: str) -> None:
    refusal(value)


@pytest.mark.parametrize("value", [None, 7, [], "x", True])
def test_challenge_and_payload_are_objects(value: object) -> None:
    assert "`challenge`" in refusal(written(challenge=value)).message
    assert "`payload`" in refusal(written(payload=value)).message


@pytest.mark.parametrize("value", [None, 7, [], {}, ""])
def test_a_source_is_a_string(value: object) -> None:
    assert "`source`" in refusal(written(source=value)).message


@pytest.mark.parametrize("name", ["id", "realm", "method", "intent", "request"])
@pytest.mark.parametrize("value", [None, 7, [], {}, ""])
def test_needed_members_of_a_challenge_are_strings(name: str, value: object) -> None:
    assert f"`challenge.{name}`" in refusal(with_challenge(**{name: value})).message


@pytest.mark.parametrize("name", ["expires", "digest", "description", "opaque", "header"])
@pytest.mark.parametrize("value", [None, 7, [], {}])
def test_further_members_of_a_challenge_are_strings(name: str, value: object) -> None:
    assert f"`challenge.{name}`" in refusal(with_challenge(**{name: value})).message


@pytest.mark.parametrize("name", ["id", "realm", "method", "intent", "request"])
def test_needed_members_of_a_challenge_are_there(name: str) -> None:
    rest = {key: text for key, text in DECODED["challenge"].items() if key != name}

    assert f"`challenge.{name}` is missing" in refusal(written(challenge=rest)).message


def test_the_size_is_checked_before_anything_is_read() -> None:
    padding = "x" * (CREDENTIAL_BYTES_MAX // 4 * 3 - len(write_json(DECODED | {"more": ""})))
    largest = written(more=padding)

    assert CREDENTIAL_BYTES_MAX == len(largest)
    assert read_credential(VALUE) == read_credential(largest)
    assert "65537 bytes; at most 65536" in refusal(largest + "A").message
    assert "at most 65536" in refusal("%" * 1_000_000).message


def test_nothing_of_a_credential_is_in_an_error_or_a_repr() -> None:
    canary = "0xcanary5e1f"
    broken = encode_base64url(write_json({**DECODED, "payload": {"signature": canary}})[:-1])
    spoilt = written(payload={"signature": canary}, source=[canary])

    for error in (refusal(broken), refusal(spoilt)):
        assert "canary" not in f"{error!r} {error} {error.__cause__!r}"
    assert canary not in repr(read_credential(written(payload={"signature": canary})))


def test_a_credential_is_written_with_what_it_has() -> None:
    read = read_credential(VALUE)
    bare = Credential(challenge=read.challenge, payload=read.payload)

    assert DECODED == json.loads(_decoded(credential_value(read)))
    assert "source" not in json.loads(_decoded(credential_value(bare)))


def _decoded(value: str) -> bytes:
    import base64

    return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
