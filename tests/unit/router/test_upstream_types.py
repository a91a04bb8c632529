"""Targets and header blocks of the HTTP client."""

import pytest

from services.router.upstream_types import Target, build_headers


def test_base_url_and_path_make_a_target() -> None:
    assert Target("h.example", 8000, tls=False, path="/v1/x?a=b") == Target.of(
        "http://h.example:8000/v1/", "/x?a=b"
    )
    assert Target("h.example", 443, tls=True, path="/") == Target.of("https://h.example")


def test_host_header_names_the_port_only_when_it_is_unusual() -> None:
    assert "h.example" == Target.of("https://h.example:443/v1").authority
    assert "h.example:8443" == Target.of("https://h.example:8443").authority
    assert "[::1]:80" == Target.of("https://[::1]:80").authority


@pytest.mark.parametrize(
    "url", ["ftp://h", "h.example", "http://", "http://u:p@h/", "http://h/a b", "http://h/\u00e9"]
)
def test_url_that_cannot_be_a_target_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"\."):
        Target.of(url)


def test_headers_hold_host_and_ask_for_no_compression() -> None:
    block = build_headers(Target.of("http://h:1"), {"X-Key": "v"})

    assert b"host: h:1\r\naccept-encoding: identity\r\nx-key: v\r\n" == block


@pytest.mark.parametrize("value", ["a\r\nx: y", "a\0", "a\n", "\u00e9"])
def test_header_that_would_break_out_is_refused_without_being_repeated(value: str) -> None:
    with pytest.raises(ValueError, match="cannot be sent") as caught:
        build_headers(Target.of("http://h"), {"authorization": value})

    assert value not in str(caught.value)
