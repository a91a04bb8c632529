"""Which URLs and addresses count as public. R-B4."""

from ipaddress import ip_address

import pytest

from kit.public_url import URL_CHARS_MAX, PublicUrl, UrlError, is_public, read_public_url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://example.com", PublicUrl("example.com", 443, "/")),
        ("HTTPS://EXAMPLE.com/A?b=C#d", PublicUrl("example.com", 443, "/A?b=C")),
        ("https://example.com?a=b", PublicUrl("example.com", 443, "/?a=b")),
        ("https://a-b.c_d.example:8443/x//y", PublicUrl("a-b.c_d.example", 8443, "/x//y")),
        ("https://xn--bcher-kva.de/%C3%A4", PublicUrl("xn--bcher-kva.de", 443, "/%C3%A4")),
        ("https://8.8.8.8/a", PublicUrl("8.8.8.8", 443, "/a")),
        ("https://[2001:4860:4860:0::8888]/", PublicUrl("2001:4860:4860::8888", 443, "/")),
        ("https://example.com/@x:y", PublicUrl("example.com", 443, "/@x:y")),
    ],
)
def test_public_url_is_read(text: str, expected: PublicUrl) -> None:
    assert expected == read_public_url(text)


def test_authority_has_brackets_and_an_unusual_port() -> None:
    authorities = [
        PublicUrl("example.com", 443, "/").authority,
        PublicUrl("example.com", 8443, "/").authority,
        PublicUrl("2001:4860::1", 443, "/").authority,
    ]

    assert ["example.com", "example.com:8443", "[2001:4860::1]"] == authorities


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.com",
        "//example.com/a",
        "http://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "javascript:alert(1)",
        "https:/example.com",
        "https:///a",
        "https://:443/",
        # Credentials and what makes two parsers see two hosts.
        "https://user@example.com/",
        "https://user:pass@example.com/",
        "https://example.com:443@evil.example/",
        "https://example.com\\@evil.example/",
        "https://example.com\\evil/",
        "https://exam\tple.com/",
        "https://exam\nple.com/",
        "https://example.com /",
        "https://example.com/a b",
        "https://example.com\x00.evil.example/",
        "https://ex%61mple.com/",
        # Letters that are turned into others.
        "https://bücher.de/",
        "https://\uff11\uff12\uff17.0.0.1/",
        "https://127\u30020\u30020\u30021/",
        "https://\u24d4xample.com/",
        # Names that are not public.
        "https://localhost/",
        "https://LOCALHOST/",
        "https://a.localhost/",
        "https://metadata.google.internal/",
        "https://printer.local/",
        "https://router.lan/",
        "https://redis/",
        "https://router.svc.cluster.local/",
        "https://example.com./",
        "https://localhost./",
        "https://.example.com/",
        "https://a..example.com/",
        "https://-a.example.com/",
        f"https://{'a' * 64}.example.com/",
        f"https://{'a.' * 127}example.com/",
        # Addresses in spellings that only a resolver understands.
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.0.0.1/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://1.2.3.4.5/",
        "https://8.8.8.8./",
        "https://8.8.8.010/",
        "https://foo.0x7f/",
        # Addresses that are not public.
        "https://127.0.0.1/",
        "https://10.0.0.1/",
        "https://172.16.5.4/",
        "https://192.168.1.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://100.100.100.200/",
        "https://168.63.129.16/",
        "https://0.0.0.0/",
        "https://255.255.255.255/",
        "https://224.0.0.1/",
        "https://[::1]/",
        "https://[::]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:8.8.8.8]/",
        "https://[::8.8.8.8]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[2002:7f00:1::]/",
        "https://[2001:0:7f00:1::]/",
        "https://[fe80::1]/",
        "https://[fe80::1%25eth0]/",
        "https://[fd00:ec2::254]/",
        "https://[ff02::1]/",
        "https://[2001:db8::1]/",
        "https://[1.2.3.4]/x]",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com:x/",
        "https://example.com/" + "a" * URL_CHARS_MAX,
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(UrlError) as caught:
        read_public_url(text)

    assert text[:30] not in str(caught.value) or not text


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", True),
        ("172.15.255.255", True),
        ("172.32.0.0", True),
        ("100.63.255.255", True),
        ("198.20.0.1", True),
        ("2606:4700::1111", True),
        ("2a00:1450::1", True),
        ("100.64.0.1", False),
        ("192.0.0.192", False),
        ("198.18.0.1", False),
        ("192.88.99.1", False),
        ("240.0.0.1", False),
        ("::ffff:1.1.1.1", False),
        ("64:ff9b:1::1", False),
        ("2001:20::1", False),
        ("3fff::1", False),
        ("5f00::1", False),
        ("fc00::1", False),
        ("fec0::1", False),
    ],
)
def test_public_addresses_are_global_unicast(address: str, expected: bool) -> None:
    assert expected is is_public(ip_address(address))
