"""The head of an answer, checked by the standard library's header parser."""

from email.parser import BytesParser
from types import SimpleNamespace
from typing import cast

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import head_bytes

REQUEST = cast("web.BaseRequest", SimpleNamespace(version=(1, 1)))
NAMES = st.text("ABCDEFabcdef-", min_size=1, max_size=12).map("X-{}".format)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40).map(str.strip)


@given(st.dictionaries(NAMES, VALUES, max_size=8))
def test_headers_are_read_back_as_they_were_given(headers: dict[str, str]) -> None:
    data = head_bytes(REQUEST, headers, unix_s=1_760_000_000)

    line, _, rest = data.partition(b"\r\n")
    parsed = BytesParser().parsebytes(rest)
    assert line == b"HTTP/1.1 200 OK"
    assert parsed.items() == [*headers.items(), ("Date", "Thu, 09 Oct 2025 08:53:20 GMT")]
    assert data.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("value", ["a\r\nX-B: c", "a\nb", "a\rb", "\r\n\r\nbody", "a\r\n"])
def test_value_that_would_begin_a_line_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        head_bytes(REQUEST, {"X-A": value, "X-C": "d"}, unix_s=0)


def test_name_that_would_begin_a_line_is_refused() -> None:
    with pytest.raises(ValueError, match="line break"):
        head_bytes(REQUEST, {"X-A: b\r\nX-B": "c"}, unix_s=0)


def test_bytes_of_a_client_that_are_no_text_go_back_as_they_came() -> None:
    value = b"caf\xe9".decode(errors="surrogateescape")

    assert b"X-A: caf\xe9\r\n" in head_bytes(REQUEST, {"X-A": value}, unix_s=0)
