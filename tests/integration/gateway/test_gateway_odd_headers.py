"""Headers and paths of odd bytes, from callers that nobody knows yet: refused, never a failure."""

from collections import Counter

import pytest

from tests.fixtures.gateway import OpenSite, Site
from tests.integration.gateway.wire import connected

ODD = {
    "byte that is no UTF-8": b"\xff",
    "half a letter": b"\xc3",
    "letter": b"\xc3\xa9",
    "surrogate": b"\xed\xa0\x80",
    "tab": b"a\tb",
    "quote": b"'; --",
    "ANSI": b"\x1b[31m",
    "percent": b"%00%0d%0a",
    "long": b"x" * 5000,
    "nothing": b"",
}
HEADERS = {
    "Authorization": b"Bearer ",
    "x-api-key": b"",
    "X-Episode-Id": b"",
    "X-Request-Id": b"",
    "traceparent": b"00-",
    "anthropic-beta": b"pdfs-2024-09-25,",
    "anthropic-version": b"",
    "Content-Type": b"application/",
    "Accept": b"text/",
    "Expect": b"",
    "Content-Encoding": b"",
    "Cookie": b"a=",
}
BODY = b'{"model":"acme/small","messages":[{"role":"user","content":"hi"}],"max_tokens":5}'


@pytest.fixture
async def site(open_site: OpenSite) -> Site:
    return await open_site()


@pytest.mark.parametrize("path", ["/chat/completions", "/messages", "/audio/transcriptions"])
@pytest.mark.parametrize("header", HEADERS)
async def test_odd_bytes_in_a_header_are_no_failure(site: Site, path: str, header: str) -> None:
    key = await site.key()
    usual = {
        "Host": b"turnpike",
        "Authorization": b"Bearer " + key.secret.encode(),
        "Content-Type": b"application/json",
        "Content-Length": b"%d" % len(BODY),
    }
    statuses: Counter[int] = Counter()
    for value in ODD.values():
        lines = {**usual, header: HEADERS[header] + value}
        if header == "x-api-key":
            del lines["Authorization"]
        head = b"".join(b"%b: %b\r\n" % (name.encode(), text) for name, text in lines.items())
        async with connected(site.gateway.port) as client:
            await client.send(b"POST /v1%b HTTP/1.1\r\n%b\r\n%b" % (path.encode(), head, BODY))
            statuses[(await client.answer()).status] += 1

    is_credential = header in ("Authorization", "x-api-key")
    assert statuses.keys() <= ({400, 401} if is_credential else {200, 400, 415})


@pytest.mark.parametrize("name", ["%FF", "%ED%A0%80", "%00", "%0D%0AX:1", "a%2Fb", "..%2f", "%"])
async def test_odd_bytes_in_a_path_are_no_failure(site: Site, name: str) -> None:
    key = await site.key()
    head = (
        f"GET /v1/models/{name} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key.secret}\r\n\r\n"
    )

    async with connected(site.gateway.port) as client:
        await client.send(head.encode())
        answer = await client.answer()

    assert answer.status in (400, 404)
    assert "error" in answer.json
