"""base64url, canonical JSON and times, against RFC 8785's own library and the strict forms."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from services.payment.mpp.encoding import (
    DEPTH_MAX,
    INTEGER_MAX,
    canonical_json,
    decode_base64url,
    decode_object,
    encode_base64url,
    encode_object,
    read_json_object,
    read_time,
    write_json,
    write_time,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-INTEGER_MAX, INTEGER_MAX) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=5)


@given(st.binary())
def test_base64url_has_no_padding_and_comes_back(data: bytes) -> None:
    text = encode_base64url(data)

    assert base64.urlsafe_b64encode(data).decode().rstrip("=") == text
    assert data == decode_base64url(text)


@pytest.mark.parametrize(
    "text",
    [
        "QQ==",
        "QQ=",
        "QR",
        "QUJ",
        "A",
        "QUJDR",
        "+/+/",
        "QU JD",
        "QUJD\n",
        "\nQUJD",
        "QÜJD",
        "QUJ.",
        "\uff14" * 4,
    ],
)
def test_base64url_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="base64url"):
        decode_base64url(text)


@given(st.text("ABab01-_=+/ \n", max_size=12))
def test_base64url_that_is_taken_is_what_would_be_written(text: str) -> None:
    try:
        data = decode_base64url(text)
    except ValueError:
        return
    assert text == encode_base64url(data)


@given(VALUES)
def test_canonical_json_is_what_rfc_8785_says(value: Any) -> None:
    assert rfc8785.dumps(value) == canonical_json(value)


def test_members_are_ordered_by_utf_16_and_not_by_code_point() -> None:
    assert b'{"\xf0\x9f\x98\x80":1,"\xef\xac\xb3":2}' == canonical_json(
        {"\ufb33": 2, "\U0001f600": 1}
    )


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        {"a": [0.5]},
        INTEGER_MAX + 1,
        -INTEGER_MAX - 1,
        "\ud800",
        {"\udfff": 1},
        {1: 2},
        b"x",
        {"a": object()},
    ],
)
def test_what_json_cannot_say_exactly_is_not_written(value: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        canonical_json(value)


@given(OBJECTS)
def test_an_object_comes_back(value: dict[str, Any]) -> None:
    assert value == decode_object(encode_object(value))
    assert value == read_json_object(write_json(value))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff",
        b'{"a":"\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a":1.0}',
        b'{"a":1e3}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":9007199254740992}',
        b'{"a":-9007199254740992}',
        b'{"a":%s}' % (b"9" * 5_000),
        b'{"a":"\\ud800"}',
        b'{"\\udc00":1}',
        b'{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b"{} {}",
        b"{'a':1}",
    ],
)
def test_json_that_is_no_exact_object_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^It is|^A member|^A number") as refused:
        read_json_object(data)

    assert refused.value.__cause__ is None


def test_objects_and_lists_within_each_other_have_a_limit() -> None:
    deepest = b'{"a":' + b"[" * (DEPTH_MAX - 1) + b"]" * (DEPTH_MAX - 1) + b"}"

    assert read_json_object(deepest)
    assert read_json_object(b'{"a":"' + b"[{" * 99 + b'\\"[[","b":[' + b"[]," * 99 + b"{}]}")
    with pytest.raises(ValueError, match="nested"):
        read_json_object(b'{"a":' + deepest + b"}")


def test_members_twice_after_unescaping_are_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        read_json_object(b'{"a":1,"\\u0061":2}')


@given(st.integers(0, 253_402_300_799))
def test_a_time_comes_back(unix_s: int) -> None:
    text = write_time(unix_s)

    assert unix_s == read_time(text)
    assert datetime.fromtimestamp(unix_s, UTC) == datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("text", "unix_s"),
    [
        ("2027-01-15T12:05:00Z", 1_800_014_700),
        ("2027-01-15T12:05:00.999Z", 1_800_014_700),
        ("2027-01-15T13:05:00+01:00", 1_800_014_700),
        ("1969-12-31T23:59:59.5Z", -1),
    ],
)
def test_a_time_is_rounded_down_to_its_second(text: str, unix_s: int) -> None:
    assert unix_s == read_time(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2027-01-15",
        "2027-01-15T12:05Z",
        "2027-01-15T12:05:00",
        "2027-13-15T12:05:00Z",
        "2027-W03-5",
        "\uff11",
        "0",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_time(text)


@given(st.binary(max_size=64))
def test_any_bytes_are_an_object_or_refused(data: bytes) -> None:
    try:
        value = read_json_object(data)
    except ValueError:
        return
    assert value == json.loads(data)
