"""Refusals over a real socket: every code that can occur, its shape by dialect, and no side effects."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from kit.secrets import mint_token
from tests.fixtures.gateway import SMALL, TWICE, Key, OpenSite, Site, Wish, chat, price_nusd
from tests.integration.gateway.wire import Answer, answer_of, connected, request_bytes

M = b'"model":"acme/small","messages":[{"role":"user","content":"hi"}]'
HI = [{"role": "user", "content": "hi"}]
DEEP = b"[" * 100_000 + b"]" * 100_000
BAD_JSON = {
    "empty": b"",
    "junk": b"hello",
    "cut": b'{"model":"acme/small"',
    "trailing junk": b"{%b} x" % M,
    "trailing zero byte": b"{%b}\0" % M,
    "two values": b"{%b}{%b}" % (M, M),
    "byte order mark": b"\xef\xbb\xbf{%b}" % M,
    "utf-16": ("{" + M.decode() + "}").encode("utf-16"),
    "nan": b'{%b,"temperature":NaN}' % M,
    "nan in an unknown field": b'{%b,"x":[NaN]}' % M,
    "infinity": b'{%b,"temperature":-Infinity}' % M,
    "lone surrogate": b'{"model":"acme/small","messages":[{"role":"user","content":"\\ud800"}]}',
    "lone surrogate in an unknown field": b'{%b,"x":"\\udfff"}' % M,
    "invalid utf-8": b'{"model":"acme/small","messages":[{"role":"user","content":"\xff"}]}',
    "invalid utf-8 in an unknown field": b'{%b,"x":"\xc0\xaf"}' % M,
    "surrogate as utf-8": b'{%b,"x":"\xed\xa0\x80"}' % M,
    "control character": b'{%b,"x":"\n"}' % M,
    "deep arrays": b'{%b,"x":%b}' % (M, DEEP),
    "deep objects": b'{%b,"x":%b1%b}' % (M, b'{"a":' * 100_000, b"}" * 100_000),
    "deep content": b'{"model":"acme/small","messages":%b}' % DEEP,
    "comment": b"{%b/**/}" % M,
    "trailing comma": b"{%b,}" % M,
}


async def send(site: Site, key: Key, body: bytes, *, prefix: str = "/v1") -> Answer:
    headers = {**key.headers, "Content-Type": "application/json"}
    url = f"{site.url}{prefix}/chat/completions"
    return await answer_of(site.http.post(url, data=body, headers=headers))


async def check_nothing_happened(site: Site, key: Key) -> None:
    """A request that follows is the only one upstream, on record and on the bill."""
    assert [] == site.main.seen
    assert [] == site.spare.seen
    good = await answer_of(site.post(key, chat()))
    (record,) = await site.settled(key, 1)
    assert good.headers["X-Request-Id"] == record.request_id
    assert price_nusd(12, 16) == record.charge_nusd


@pytest.mark.parametrize("name", BAD_JSON)
async def test_body_that_is_no_json_is_refused(site: Site, name: str) -> None:
    key = await site.key()

    answer = await send(site, key, BAD_JSON[name])

    assert 400 == answer.status
    assert ("invalid_json", "invalid_request_error") == (
        answer.error["code"],
        answer.error["type"],
    )
    await check_nothing_happened(site, key)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"[]", "invalid_value", None),
        (b'"text"', "invalid_value", None),
        (b"null", "invalid_value", None),
        (b"{}", "missing_field", "model"),
        (b'{"model":"acme/small"}', "missing_field", "messages"),
        (b'{"model":"acme/small","messages":[]}', "invalid_value", "messages"),
        (b'{"model":"","messages":[{"role":"user","content":"x"}]}', "invalid_value", "model"),
        (b'{"model":7,"messages":[{"role":"user","content":"x"}]}', "invalid_value", "model"),
        (b'{%b,"temperature":1e999}' % M, "invalid_value", "temperature"),
        (b'{%b,"temperature":2.1}' % M, "invalid_value", "temperature"),
        (b'{%b,"temperature":"hot"}' % M, "invalid_value", "temperature"),
        (b'{%b,"top_p":-0.1}' % M, "invalid_value", "top_p"),
        (b'{%b,"max_tokens":0}' % M, "invalid_value", "max_tokens"),
        (b'{%b,"max_tokens":-1}' % M, "invalid_value", "max_tokens"),
        (b'{%b,"max_tokens":1.5}' % M, "invalid_value", "max_tokens"),
        (b'{%b,"max_tokens":1e308}' % M, "invalid_value", "max_tokens"),
        (b'{%b,"max_tokens":"5"}' % M, "invalid_value", "max_tokens"),
        (
            b'{%b,"max_tokens":1,"max_completion_tokens":2}' % M,
            "invalid_value",
            "max_completion_tokens",
        ),
        (b'{%b,"n":0}' % M, "invalid_value", "n"),
        (b'{%b,"n":17}' % M, "invalid_value", "n"),
        (b'{%b,"n":true}' % M, "invalid_value", "n"),
        (b'{%b,"stream":"yes"}' % M, "invalid_value", "stream"),
        (b'{%b,"stream_options":{}}' % M, "invalid_value", "stream_options"),
        (b'{%b,"top_logprobs":3}' % M, "invalid_value", "top_logprobs"),
        (b'{%b,"timeout_ms":30001}' % M, "invalid_value", "timeout_ms"),
        (b'{%b,"timeout_ms":0}' % M, "invalid_value", "timeout_ms"),
        (b'{%b,"guided_json":{}}' % M, "unsupported_parameter", "guided_json"),
        (b'{"model":"m","messages":[{"role":"king"}]}', "invalid_value", "messages[0].role"),
        (b'{"model":"m","messages":[{"role":"user"}]}', "missing_field", "messages[0].content"),
        (b'{"model":"m","messages":[{"content":"x"}]}', "missing_field", "messages[0].role"),
        (
            b'{"model":"m","messages":[{"role":"tool","content":"x","tool_call_id":"a"}]}',
            "invalid_value",
            "messages[0].tool_call_id",
        ),
        (
            b'{"model":"m","messages":[{"role":"assistant","tool_calls":[{"id":[1]}]},'
            b'{"role":"tool","content":"x"}]}',
            "invalid_value",
            "messages[1].tool_call_id",
        ),
    ],
)
async def test_wrong_field_is_refused_by_name(
    site: Site, body: bytes, code: str, param: str | None
) -> None:
    key = await site.key()

    answer = await send(site, key, body)

    assert (400, code, param) == (answer.status, answer.error["code"], answer.error["param"])
    await check_nothing_happened(site, key)


async def test_prompt_longer_than_the_context_is_refused(site: Site) -> None:
    key = await site.key()

    answer = await answer_of(site.post(key, chat("x" * 16 * 8192)))

    assert (400, "context_length_exceeded") == (answer.status, answer.error["code"])
    await check_nothing_happened(site, key)


@pytest.mark.parametrize("model", ["acme/none", "ACME/SMALL", " small", "../small", TWICE])
async def test_model_that_is_not_there_or_not_allowed_is_not_found(site: Site, model: str) -> None:
    key = await site.key(models=[SMALL])

    answer = await answer_of(site.post(key, chat(model=model)))
    url = f"{site.url}/v1/models/{model.replace('/', '%2F')}"
    listed = await answer_of(site.http.get(url, headers=key.headers))

    assert (404, "model_not_found") == (answer.status, answer.error["code"])
    assert ("not_found_error", "model") == (answer.error["type"], answer.error["param"])
    assert 404 == listed.status
    await check_nothing_happened(site, key)


def expiring(site: Site, left_s: int) -> Timestamp:
    return Timestamp(seconds=site.auth_clock.unix_ms() // 1000 + left_s)


async def credential_headers(site: Site, kind: str) -> AsyncIterator[dict[str, str]]:
    key = await site.key(expire_time=expiring(site, 3600))
    other = await site.key()
    unknown = mint_token("sk-tp-", b"\1" * 64)
    if kind == "key_revoked":
        await site.revoke(key)
    if kind == "key_expired":
        site.auth_clock.advance(3600)
    found: dict[str, dict[str, str]] = {
        "none": {},
        "empty bearer": {"Authorization": "Bearer "},
        "basic": {"Authorization": "Basic dXNlcjpwYXNz"},
        "malformed": {"Authorization": "Bearer sk-tp-nonsense"},
        "other form": {"Authorization": "Bearer sk-proj-0123456789"},
        "checksum": {"Authorization": f"Bearer {key.secret[:-1]}{'A' if key.secret[-1] != 'A' else 'B'}"},
        "unknown": {"Authorization": f"Bearer {unknown}"},
        "not ascii": {"Authorization": "Bearer schlüssel"},
        "very long": {"Authorization": "Bearer " + "a" * 8000},
        "two different": {**key.headers, "x-api-key": other.secret},
        "key_revoked": key.headers,
        "key_expired": key.headers,
    }
    yield found[kind]


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("none", 401, "invalid_api_key"),
        ("empty bearer", 401, "invalid_api_key"),
        ("basic", 401, "invalid_api_key"),
        ("malformed", 401, "invalid_api_key"),
        ("other form", 401, "invalid_api_key"),
        ("checksum", 401, "invalid_api_key"),
        ("unknown", 401, "invalid_api_key"),
        ("not ascii", 401, "invalid_api_key"),
        ("very long", 401, "invalid_api_key"),
        ("two different", 400, "bad_request"),
        ("key_revoked", 401, "key_revoked"),
        ("key_expired", 401, "key_expired"),
    ],
)
async def test_bad_credential_is_refused(site: Site, kind: str, status: int, code: str) -> None:
    async for headers in credential_headers(site, kind):
        url = f"{site.url}/v1/chat/completions"

        answer = await answer_of(site.http.post(url, json=chat(), headers=headers))
        listed = await answer_of(site.http.get(f"{site.url}/v1/models", headers=headers))

        assert (status, code) == (answer.status, answer.error["code"])
        assert (status, code) == (listed.status, listed.error["code"])
        assert ("WWW-Authenticate" in answer.headers) == (status == 401)
        assert [] == site.main.seen


async def test_key_that_expires_while_it_is_cached_is_refused(open_site: OpenSite) -> None:
    site = await open_site(Wish(gateway={"verdict_ttl_s": 3600.0, "verdict_ttl_blind_s": 3600.0}))
    moment = Timestamp()
    moment.GetCurrentTime()
    moment.seconds += 2
    key = await site.key(expire_time=moment)

    before = await answer_of(site.post(key, chat()))
    async with asyncio.timeout(15):
        while (after := await answer_of(site.post(key, chat()))).status == 200:
            await asyncio.sleep(0.05)

    assert 200 == before.status
    assert (401, "key_expired") == (after.status, after.error["code"])


async def test_the_same_key_in_both_headers_and_in_x_api_key_alone_is_taken(site: Site) -> None:
    key = await site.key()

    both = await answer_of(site.post(key, chat(), **{"x-api-key": key.secret}))
    url = f"{site.url}/v1/chat/completions"
    alone = await answer_of(site.http.post(url, json=chat(), headers={"x-api-key": key.secret}))

    assert [200, 200] == [both.status, alone.status]


async def test_scope_that_the_key_lacks_is_forbidden(site: Site) -> None:
    models_only = await site.key(scopes=["models"])
    chat_only = await site.key(scopes=["chat"])

    answer = await answer_of(site.post(models_only, chat()))
    listed = await answer_of(site.http.get(f"{site.url}/v1/models", headers=chat_only.headers))

    assert (403, "key_scope", "permission_error") == (
        answer.status,
        answer.error["code"],
        answer.error["type"],
    )
    assert 403 == listed.status
    await check_nothing_happened(site, chat_only)


async def test_body_over_the_limit_is_refused(open_site: OpenSite) -> None:
    site = await open_site(Wish(gateway={"body_bytes_max": 4096}))
    key = await site.key()
    body = json.dumps(chat("x" * 4096)).encode()
    zipped = gzip.compress(b" " * 50_000_000)

    async def parts() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 512):
            yield body[at : at + 512]

    headers = {**key.headers, "Content-Type": "application/json"}
    url = f"{site.url}/v1/chat/completions"
    sized = await answer_of(site.http.post(url, data=body, headers=headers))
    chunked = await answer_of(site.http.post(url, data=parts(), headers=headers))
    bomb_headers = {**headers, "Content-Encoding": "gzip"}
    bomb = await answer_of(site.http.post(url, data=zipped, headers=bomb_headers))

    for answer in (sized, chunked, bomb):
        assert (413, "payload_too_large") == (answer.status, answer.error["code"])
    await check_nothing_happened(site, key)


async def test_body_that_does_not_come_is_given_up(open_site: OpenSite) -> None:
    site = await open_site(Wish(gateway={"body_timeout_s": 0.2}))
    key = await site.key()

    async with connected(site.gateway.port) as client:
        await client.send(request_bytes(key.secret, b"{" + M + b"}")[:-5])
        answer = await client.answer()

    assert (408, "request_timeout") == (answer.status, answer.error["code"])
    await check_nothing_happened(site, key)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "json"])
async def test_other_content_type_is_refused(site: Site, kind: str) -> None:
    key = await site.key()
    headers = {**key.headers, "Content-Type": kind}
    url = f"{site.url}/v1/chat/completions"

    answer = await answer_of(site.http.post(url, data=b"{%b}" % M, headers=headers))

    assert (415, "unsupported_media_type") == (answer.status, answer.error["code"])
    await check_nothing_happened(site, key)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "TRACE", "BREW"])
async def test_other_method_is_not_allowed(site: Site, method: str) -> None:
    url = f"{site.url}/v1/chat/completions"

    answer = await answer_of(site.http.request(method, url))

    assert (405, "POST") == (answer.status, answer.headers["Allow"])
    assert "method_not_allowed" == answer.error["code"]


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/completions", "/v2/chat/completions", "/x/%00"])
async def test_unknown_path_is_not_found(site: Site, path: str) -> None:
    key = await site.key()

    answer = await answer_of(site.http.post(f"{site.url}{path}", json=chat(), headers=key.headers))

    assert (404, "not_found") == (answer.status, answer.error["code"])
    await check_nothing_happened(site, key)


DIALECT_ERRORS: dict[str, dict[str, Any]] = {
    "/v1": {"type": "authentication_error", "code": "invalid_api_key"},
    "/api/v1": {"type": "authentication_error", "code": "INVALID_API_KEY"},
    "/vram/v1": {"type": "auth_error"},
    "/bud/v1": {"type": "authentication_error", "code": 401},
    "/runinfra/v1": {"type": "authentication_error"},
}


@pytest.mark.parametrize("prefix", DIALECT_ERRORS)
async def test_dialect_decides_type_and_code_of_an_error(site: Site, prefix: str) -> None:
    nobody = Key("", "", "sk-tp-none")

    answer = await answer_of(site.post(nobody, chat(), prefix=prefix))

    error = answer.error
    assert DIALECT_ERRORS[prefix] == {n: error[n] for n in ("type", "code") if n in error}


async def test_keys_dialect_shapes_errors_that_follow_it(site: Site) -> None:
    key = await site.key(dialect="bud")

    answer = await answer_of(site.post(key, chat(model="acme/none")))

    assert (404, 404, "not_found_error") == (
        answer.status,
        answer.error["code"],
        answer.error["type"],
    )
