"""Endpoints, credentials and names, against a whole site."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.settings import GatewaySettings
from tests.fakes.openai_model import OpenAiModel, open_openai_model
from tests.fixtures.gateway import Key, OpenSite, Site, Wish
from tests.integration.gateway.wire import Answer, answer_of
from tests.rows.request_cases import USER
from tests.rows.site import catalogue
from tests.rows.table import PREFIXES

BODY = {"model": "sea", "messages": [USER], "stream": False}


@pytest.fixture
async def model() -> AsyncIterator[OpenAiModel]:
    async with open_openai_model() as opened:
        yield opened


@pytest.fixture
async def site(open_site: OpenSite, model: OpenAiModel) -> Site:
    settings = {"imported_prefixes": ("sk-infer-",)}
    return await open_site(Wish(catalogue=catalogue(model), gateway=settings))


async def got(site: Site, path: str, key: Key) -> Answer:
    return await answer_of(site.http.get(site.url + path, headers=key.headers))


@pytest.mark.parametrize(("row", "prefix"), [("E1", "/v1"), ("E2", "/api/v1")])
async def test_chat_is_served_at(row: str, prefix: str, site: Site) -> None:
    key = await site.key()

    good = await answer_of(site.post(key, BODY, prefix=prefix))
    wrong = await answer_of(site.http.get(f"{site.url}{prefix}/chat/completions"))
    none = await answer_of(site.post(key, BODY, prefix=prefix + "/x"))

    assert (200, 405, 404) == (good.status, wrong.status, none.status), row
    assert "POST" == wrong.headers["Allow"]


async def test_e3_models_are_those_of_the_key_with_prices(site: Site) -> None:
    every, few = await site.key(), await site.key(models=["sea"])

    for prefix in PREFIXES.values():
        listed = (await got(site, f"{prefix}/models", every)).json
        by_id = {each["id"]: each for each in listed["data"]}
        allowed = (await got(site, f"{prefix}/models", few)).json["data"]

        assert {"sea", "sea-vllm", "bare", "few", "far", "free", "sea:salt"} < by_id.keys()
        assert "turnpike::function_name::assistant" in by_id
        assert "0.15" == by_id["sea"]["pricing"]["input_usd_per_million"]
        assert 8192 == by_id["sea"]["context_length"]
        assert "tools" in by_id["sea"]["supported_parameters"]
        assert "tools" not in by_id["bare"]["supported_parameters"]
        assert {"sea", "sea:salt", "turnpike::function_name::assistant"} == {
            each["id"] for each in allowed
        }


def test_e4_default_address_is_the_seeds() -> None:
    assert ("127.0.0.1", 3000) == (GatewaySettings().host, GatewaySettings().port)


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("Bearer {}", 200),
        ("bearer {}", 200),
        ("Basic {}", 401),
        ("Bearer", 401),
        ("Bearer sk-tp-none", 401),
    ],
)
async def test_e5_key_comes_as_bearer(value: str, status: int, site: Site) -> None:
    key = await site.key()
    headers = {"Authorization": value.format(key.secret)}

    answer = await answer_of(
        site.http.post(f"{site.url}/v1/chat/completions", json=BODY, headers=headers)
    )

    assert status == answer.status
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)


async def test_e6_imported_keys_are_looked_up_without_our_checksum(site: Site) -> None:
    stranger = Key("", "", "sk-infer-brought-along")

    answer = await answer_of(site.post(stranger, BODY))

    assert (401, "invalid_api_key") == (answer.status, answer.error["code"])


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
    ],
)
async def test_e9_body_is_json(kind: str, status: int, site: Site) -> None:
    key = await site.key()
    headers = {**key.headers, "Content-Type": kind}
    data = b'{"model":"sea","messages":[{"role":"user","content":"x"}]}'

    answer = await answer_of(
        site.http.post(f"{site.url}/v1/chat/completions", data=data, headers=headers)
    )

    assert status == answer.status


@pytest.mark.parametrize(
    ("row", "name", "status", "sent"),
    [
        ("E11", "sea", 200, "upstream-sea"),
        ("E11", "sea-1", 200, "upstream-sea"),
        ("E11", "SEA", 404, ""),
        ("E12", "sea-here", 200, "upstream-sea"),
        ("E12", "sea:salt", 200, "salt"),
        ("E12", "salt", 200, "salt"),
        ("E12", "open/sea", 200, "upstream-sea"),
        ("E12", "open/upstream-sea", 404, ""),
        ("E12", "sea:pepper", 404, ""),
        ("E13", "tensorzero::model_name::sea", 200, "upstream-sea"),
        ("E13", "turnpike::model_name::open::sea", 200, "upstream-sea"),
        ("E13", "tensorzero::function_name::assistant", 200, "upstream-sea"),
        ("E13", "turnpike::function_name::assistant", 200, "upstream-sea"),
        ("E13", "tensorzero::function_name::none", 404, ""),
        ("E13", "tensorzero::model_name::", 400, ""),
        ("E14", "far", 404, ""),
    ],
)
async def test_name_means(
    row: str, name: str, status: int, sent: str, site: Site, model: OpenAiModel
) -> None:
    key = await site.key(models=["sea"])

    answer = await answer_of(site.post(key, {**BODY, "model": name}))

    assert status == answer.status, (row, answer.body)
    if status == 200:
        assert ("sea", name) == (answer.json["model"], answer.headers["X-Route-Model"])
        assert sent == model.seen[-1]["model"]
        assert ("function" in name) == ("temperature" in model.seen[-1])
    else:
        assert "model" == answer.error["param"]
        assert [] == model.seen


async def test_e13_function_keeps_its_fields(site: Site) -> None:
    key = await site.key()
    body: dict[str, Any] = {**BODY, "model": "turnpike::function_name::assistant"}

    answer = await answer_of(site.post(key, {**body, "temperature": 1}))

    assert (400, "temperature") == (answer.status, answer.error["param"])


async def test_e15_description_is_open_to_everybody(site: Site) -> None:
    kinds = {
        "/llms.txt": "text/plain",
        "/openapi.json": "application/json",
        "/docs": "text/html",
    }
    for path, kind in kinds.items():
        answer = await answer_of(site.http.get(site.url + path))
        assert (200, f"{kind}; charset=utf-8") == (answer.status, answer.headers["Content-Type"])
        assert b"/v1/chat/completions" in answer.body
