"""Refusals over a real socket: every code, its shape by dialect, and no side effects."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from google.protobuf.timestamp_pb2 import Timestamp

from kit.secrets import mint_token
from tests.fixtures.catalogues import SMALL, TWICE, chat, price_nusd
from tests.fixtures.gateway import Key, OpenSite, Site, Wish
from tests.integration.gateway.wire import Answer, answer_of, connected, request_bytes

M = b'"model":"acme/small","messages":[{"role":"user","content":"hi"}]'
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
    "deep tools": b'{%b,"tools":[{"x":%b}]}' % (M, DEEP),
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


async def test_body_that_is_no_json_is_refused(site: Site) -> None:
    key = await site.key()

    answers = {name: await send(site, key, body) for name, body in BAD_JSON.items()}

    found = {name: (a.status, a.error["code"], a.error["type"]) for name, a in answers.items()}
    assert dict.fromkeys(BAD_JSON, (400, "invalid_json", "invalid_request_error")) == found
    await check_nothing_happened(site, key)


WRONG: dict[bytes, tuple[str, str | None]] = {
    b"[]": ("invalid_value", None),
    b'"text"': ("invalid_value", None),
    b"null": ("invalid_value", None),
    b"{}": ("missing_field", "model"),
    b'{"model":"acme/small"}': ("missing_field", "messages"),
    b'{"model":"acme/small","messages":[]}': ("invalid_value", "messages"),
    b'{"model":"","messages":[{"role":"user","content":"x"}]}': ("invalid_value", "model"),
    b'{"model":7,"messages":[{"role":"user","content":"x"}]}': ("invalid_value", "model"),
    b'{"model":"m","messages":[{"role":"king"}]}': ("invalid_value", "messages[0].role"),
    b'{"model":"m","messages":[{"role":"user"}]}': ("missing_field", "messages[0].content"),
    b'{"model":"m","messages":[{"content":"x"}]}': ("missing_field", "messages[0].role"),
    b'{"model":"m","messages":[{"role":"tool","content":"x","tool_call_id":"a"}]}': (
        "invalid_value",
        "messages[0].tool_call_id",
    ),
    b'{"model":"m","messages":[{"role":"assistant","tool_calls":[{"id":[1]}]},'
    b'{"role":"tool","content":"x"}]}': ("invalid_value", "messages[0].tool_calls[0].id"),
    b'{%b,"temperature":1e999}' % M: ("invalid_value", "temperature"),
    b'{%b,"temperature":2.1}' % M: ("invalid_value", "temperature"),
    b'{%b,"temperature":"hot"}' % M: ("invalid_value", "temperature"),
    b'{%b,"top_p":-0.1}' % M: ("invalid_value", "top_p"),
    b'{%b,"max_tokens":0}' % M: ("invalid_value", "max_tokens"),
    b'{%b,"max_tokens":-1}' % M: ("invalid_value", "max_tokens"),
    b'{%b,"max_tokens":1.5}' % M: ("invalid_value", "max_tokens"),
    b'{%b,"max_tokens":1e308}' % M: ("invalid_value", "max_tokens"),
    b'{%b,"max_tokens":"5"}' % M: ("invalid_value", "max_tokens"),
    b'{%b,"max_tokens":1,"max_completion_tokens":2}' % M: (
        "invalid_value",
        "max_completion_tokens",
    ),
    b'{%b,"n":0}' % M: ("invalid_value", "n"),
    b'{%b,"n":17}' % M: ("invalid_value", "n"),
    b'{%b,"n":true}' % M: ("invalid_value", "n"),
    b'{%b,"stream":"yes"}' % M: ("invalid_value", "stream"),
    b'{%b,"stream_options":{}}' % M: ("invalid_value", "stream_options"),
    b'{%b,"top_logprobs":3}' % M: ("invalid_value", "top_logprobs"),
    b'{%b,"timeout_ms":30001}' % M: ("invalid_value", "timeout_ms"),
    b'{%b,"timeout_ms":0}' % M: ("invalid_value", "timeout_ms"),
    b'{%b,"guided_json":5}' % M: ("invalid_value", "guided_json"),
}


async def test_wrong_field_is_refused_by_name(site: Site) -> None:
    key = await site.key()

    answers = {body: await send(site, key, body) for body in WRONG}

    assert {400} == {answer.status for answer in answers.values()}
    assert WRONG == {body: (a.error["code"], a.error["param"]) for body, a in answers.items()}
    await check_nothing_happened(site, key)


async def test_prompt_longer_than_the_context_is_refused(site: Site) -> None:
    key = await site.key()

    answer = await answer_of(site.post(key, chat("x" * 16 * 8192)))

    assert (400, "context_length_exceeded") == (answer.status, answer.error["code"])
    await check_nothing_happened(site, key)


async def test_model_that_is_not_there_or_not_allowed_is_not_found(site: Site) -> None:
    key = await site.key(models=[SMALL])
    names = ["acme/none", "ACME/SMALL", " small", "small ", "../small", TWICE]

    answers = [await answer_of(site.post(key, chat(model=name))) for name in names]
    url = f"{site.url}/v1/models/"
    gets = [site.http.get(url + quote(name, safe=""), headers=key.headers) for name in names]
    answers += [await answer_of(get) for get in gets]

    assert {404} == {answer.status for answer in answers}
    assert {("model_not_found", "not_found_error", "model")} == {
        (answer.error["code"], answer.error["type"], answer.error["param"]) for answer in answers
    }
    assert 1 == len({answer.error["message"] for answer in answers})
    await check_nothing_happened(site, key)


BAD_CREDENTIALS: dict[str, tuple[int, str]] = {
    **dict.fromkeys(
        ("none", "empty", "basic", "malformed", "foreign", "checksum", "unknown", "odd", "long"),
        (401, "invalid_api_key"),
    ),
    "two different": (400, "bad_request"),
    "revoked": (401, "key_revoked"),
    "expired": (401, "key_expired"),
}


async def bad_credentials(site: Site) -> dict[str, dict[str, str]]:
    good, revoked = await site.key(), await site.key()
    soon = Timestamp(seconds=site.auth_clock.unix_ms() // 1000 + 3600)
    expired = await site.key(expire_time=soon)
    await site.revoke(revoked)
    site.auth_clock.advance(3600)
    other_end = "A" if good.secret[-1] != "A" else "B"
    bearers = {
        "empty": "Bearer ",
        "basic": "Basic dXNlcjpwYXNz",
        "malformed": "Bearer sk-tp-nonsense",
        "foreign": "Bearer sk-proj-0123456789",
        "checksum": f"Bearer {good.secret[:-1]}{other_end}",
        "unknown": "Bearer " + mint_token("sk-tp-", b"\1" * 32),
        "odd": "Bearer schlüssel",
        "long": "Bearer " + "a" * 8000,
    }
    return {
        "none": {},
        **{name: {"Authorization": value} for name, value in bearers.items()},
        "two different": {**good.headers, "x-api-key": revoked.secret},
        "revoked": revoked.headers,
        "expired": expired.headers,
    }


async def test_bad_credential_is_refused(site: Site) -> None:
    chat_url, models_url = f"{site.url}/v1/chat/completions", f"{site.url}/v1/models"
    found: dict[str, set[tuple[int, str]]] = {}
    for name, headers in (await bad_credentials(site)).items():
        posted = await answer_of(site.http.post(chat_url, json=chat(), headers=headers))
        listed = await answer_of(site.http.get(models_url, headers=headers))
        found[name] = {(a.status, a.error["code"]) for a in (posted, listed)}
        assert ("WWW-Authenticate" in posted.headers) == (posted.status == 401)

    assert {name: {expected} for name, expected in BAD_CREDENTIALS.items()} == found
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


async def test_other_content_type_is_refused(site: Site) -> None:
    key = await site.key()
    url = f"{site.url}/v1/chat/completions"
    kinds = ("text/plain", "application/x-www-form-urlencoded", "", "json", "application/jsonp")

    for kind in kinds:
        headers = {**key.headers, "Content-Type": kind}
        answer = await answer_of(site.http.post(url, data=b"{%b}" % M, headers=headers))

        assert (415, "unsupported_media_type") == (answer.status, answer.error["code"]), kind
    await check_nothing_happened(site, key)


async def test_other_method_is_not_allowed(site: Site) -> None:
    for method in ("GET", "PUT", "DELETE", "PATCH", "TRACE"):
        url = f"{site.url}/v1/chat/completions"

        answer = await answer_of(site.http.request(method, url))

        assert (405, "POST") == (answer.status, answer.headers["Allow"]), method
        assert "method_not_allowed" == answer.error["code"]


async def test_unknown_path_is_not_found(site: Site) -> None:
    key = await site.key()

    for path in ("/", "/v1", "/v1/unknown", "/v2/chat/completions", "/x/%00", "/v1/chat//x"):
        url = f"{site.url}{path}"
        answer = await answer_of(site.http.post(url, json=chat(), headers=key.headers))

        assert (404, "not_found") == (answer.status, answer.error["code"]), path
    await check_nothing_happened(site, key)


DIALECT_ERRORS: dict[str, dict[str, Any]] = {
    "/v1": {"type": "authentication_error", "code": "invalid_api_key"},
    "/api/v1": {"type": "authentication_error", "code": "INVALID_API_KEY"},
    "/vram/v1": {"type": "auth_error"},
    "/bud/v1": {"type": "authentication_error", "code": 401},
    "/runinfra/v1": {"type": "authentication_error"},
}


async def test_dialect_decides_type_and_code_of_an_error(site: Site) -> None:
    nobody = Key("", "", "sk-tp-none")

    for prefix, expected in DIALECT_ERRORS.items():
        error = (await answer_of(site.post(nobody, chat(), prefix=prefix))).error

        assert expected == {name: error[name] for name in ("type", "code") if name in error}


async def test_keys_dialect_shapes_errors_that_follow_it(site: Site) -> None:
    key = await site.key(dialect="bud")

    answer = await answer_of(site.post(key, chat(model="acme/none")))

    assert (404, 404, "not_found_error") == (
        answer.status,
        answer.error["code"],
        answer.error["type"],
    )
