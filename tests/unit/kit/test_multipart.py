"""Forms: what is put together comes apart the same, and nothing else is taken for a form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.multipart import PARTS_MAX, MultipartError, Part, boundary_of, decode, encode

NAMES = st.from_regex(r"[A-Za-z0-9_.\[\] -]{1,20}", fullmatch=True)
PARTS = st.lists(
    st.one_of(
        st.builds(Part, NAMES, st.binary(max_size=200), st.none(), st.just("")),
        st.builds(Part, NAMES, st.binary(max_size=200), NAMES, st.just("audio/wav")),
    ),
    max_size=5,
)


@given(PARTS)
def test_what_is_put_together_comes_apart_the_same(parts: list[Part]) -> None:
    content_type, body = encode(parts)

    boundary = boundary_of(content_type)
    assert boundary is not None
    assert parts == decode(body, boundary)


@given(st.binary(max_size=300), st.integers(0, 300), st.integers(0, 300))
def test_damaged_form_is_refused_or_read_and_never_fails_otherwise(
    noise: bytes, start: int, end: int
) -> None:
    _, body = encode([Part("a", b"1"), Part("file", b"\r\n--x" * 9, "a.wav", "audio/wav")])
    boundary = body[2:34]

    try:
        parts = decode(body[:start] + noise + body[end:], boundary)
    except MultipartError:
        return
    assert all(part.name for part in parts)


@pytest.mark.parametrize(
    ("header", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data;charset=utf-8; boundary="a b:c"', b"a b:c"),
        ("multipart/form-data; boundary=abc; charset=utf-8", b"abc"),
        ("multipart/form-data", None),
        ("multipart/form-data; boundary=", None),
        ("multipart/mixed; boundary=abc", None),
        ("application/json", None),
        ("multipart/form-data; boundary=" + "x" * 71, None),
    ],
)
def test_boundary_is_what_the_header_says(header: str, boundary: bytes | None) -> None:
    assert boundary == boundary_of(header)


HEAD = b'Content-Disposition: form-data; name="a"'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--b--x",
        b"nothing",
        b"--b\r\n" + HEAD + b"\r\n\r\n1",
        b"--bx\r\n" + HEAD + b"\r\n\r\n1\r\n--b--",
        b"--b\r\n\r\n1\r\n--b--",
        b"--b\r\nContent-Disposition: form-data\r\n\r\n1\r\n--b--",
        b"--b\r\nContent-Disposition: attachment; name=a\r\n\r\n1\r\n--b--",
        b"--b\r\n" + HEAD + b"\r\nContent-Transfer-Encoding: base64\r\n\r\nMQ==\r\n--b--",
        b"--b\r\n" + HEAD + b"\xff\r\n\r\n1\r\n--b--",
        b"--b\r\nX: " + b"x" * 9_000 + b"\r\n" + HEAD + b"\r\n\r\n1\r\n--b--",
        b"".join(b"--b\r\n" + HEAD + b"\r\n\r\n1\r\n" for _ in range(PARTS_MAX + 1)) + b"--b--",
    ],
)
def test_body_that_is_no_form_is_refused(body: bytes) -> None:
    if body == b"--b--x":
        assert [] == decode(body, b"b")
        return
    with pytest.raises(MultipartError):
        decode(body, b"b")


def test_form_of_another_client_is_read() -> None:
    body = (
        b"preamble\r\n--b  \r\ncontent-disposition: form-data; filename=\"a \\\"b\\\".mp3\"; "
        b'name=file\r\ncontent-type: audio/mpeg\r\n\r\n\x00\r\n--\r\n--b\r\n'
        b'Content-Disposition: form-data; name="model"\r\n\r\n\r\n--b--\r\nepilogue'
    )  # fmt: skip

    assert [
        Part("file", b"\x00\r\n--", 'a "b".mp3', "audio/mpeg"),
        Part("model", b""),
    ] == decode(body, b"b")


@pytest.mark.parametrize("name", ['a"b', "a\r\nX: y", "", "ä"])
def test_name_that_could_break_the_form_is_not_written(name: str) -> None:
    with pytest.raises(ValueError, match="names"):
        encode([Part(name, b"")])
