"""`models`: others that answer when the one that was asked for cannot."""

from typing import Any

import pytest

from tests.fakes.openai_script import Script
from tests.fixtures.catalogues import FREE, SMALL, TWICE, chat, price_nusd, usual_catalogue
from tests.fixtures.gateway import Key, OpenSite, Site, Wish, until
from tests.integration.gateway.wire import Answer, answer_of, events_of

DEAR = {"input_usd_per_million": "30", "output_usd_per_million": "60"}


async def ask(site: Site, key: Key, *models: str, **fields: Any) -> Answer:
    body = chat() | {"model": TWICE, "models": list(models), "max_tokens": 64} | fields
    return await answer_of(site.post(key, body))


def fail(site: Site, *, model: str) -> None:
    """Let every deployment of one upstream model fail, and the other answer."""

    def handler(seen: Any) -> Script:
        return Script(status=500) if seen.body["model"] == model else Script()

    site.main.handler = site.spare.handler = handler


@pytest.fixture
async def apart(open_site: OpenSite) -> Site:
    """A site whose models are called differently upstream; the second one is dear."""
    site = await open_site()
    catalogue = usual_catalogue(site.main, site.spare)
    for place in catalogue["models"][TWICE]["deployments"]:
        place["upstream_model"] = "upstream-twice"
    site.write_catalogue(catalogue)
    key = await site.key()

    async def is_read() -> bool:
        answer = await answer_of(site.post(key, chat() | {"model": TWICE}))
        return answer.headers.get("X-Model-Used") == "upstream-twice"

    await until(is_read)
    site.main.seen.clear()
    site.spare.seen.clear()
    return site


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_next_model_answers_and_is_what_is_named_and_charged(
    apart: Site, is_streaming: bool
) -> None:
    fail(apart, model="upstream-twice")
    key = await apart.key()

    answer = await ask(apart, key, SMALL, stream=is_streaming)

    (record,) = await apart.settled(key, 1)
    assert (200, "3") == (answer.status, answer.headers["X-Turnpike-Attempts"])
    assert (TWICE, "upstream-small") == (
        answer.headers["X-Route-Model"], answer.headers["X-Model-Used"]
    )  # fmt: skip
    models = (
        {each["model"] for each in events_of(answer.body) if each != "[DONE]"}
        if is_streaming
        else {answer.json["model"]}
    )
    assert {SMALL} == models
    assert (SMALL, "small-main", price_nusd(12, 16)) == (
        record.model_id, record.deployment, record.charge_nusd
    )  # fmt: skip


async def test_first_model_answers_where_it_can(site: Site) -> None:
    key = await site.key()

    answer = await ask(site, key, SMALL, TWICE)

    assert (TWICE, "1") == (answer.json["model"], answer.headers["X-Turnpike-Attempts"])
    assert "models" not in site.main.seen[0].body


async def test_all_that_fail_are_named(site: Site) -> None:
    site.main.handler = site.spare.handler = lambda _seen: Script(status=503)
    key = await site.key()

    answer = await ask(site, key, SMALL)

    assert (502, "all_providers_failed") == (answer.status, answer.error["code"])
    assert "3 tried" in answer.error["message"]
    assert 0 == (await site.balance(key)).charged_nusd


async def test_a_model_that_nobody_can_serve_is_passed_over(open_site: OpenSite) -> None:
    site = await open_site()
    catalogue = usual_catalogue(site.main, site.spare)
    for place in catalogue["models"][TWICE]["deployments"]:
        place["price"] = DEAR
    site = await open_site(Wish(catalogue=catalogue))
    key = await site.key()
    ceilings = {"max_input_price_per_million": 100, "max_output_price_per_million": 100}

    served = await ask(site, key, SMALL, **ceilings)
    refused = await ask(site, key, **ceilings)

    assert (200, SMALL) == (served.status, served.json["model"])
    assert (503, {"excluded": "ceiling=2"}) == (refused.status, refused.error["details"])


async def test_the_dearest_of_them_is_held(open_site: OpenSite) -> None:
    site = await open_site()
    catalogue = usual_catalogue(site.main, site.spare)
    catalogue["models"][SMALL]["deployments"][0]["price"] = DEAR
    site = await open_site(Wish(catalogue=catalogue))
    key = await site.key(credit_nusd=price_nusd(100, 64))

    alone = await ask(site, key)
    together = await ask(site, key, SMALL)

    assert (200, 402) == (alone.status, together.status)


async def test_prompt_that_fills_one_model_goes_to_the_next(open_site: OpenSite) -> None:
    site = await open_site()
    catalogue = usual_catalogue(site.main, site.spare)
    catalogue["models"][TWICE]["context_length"] = 16
    site = await open_site(Wish(catalogue=catalogue))
    key = await site.key()
    long = [{"role": "user", "content": "salt " * 200}]

    served = await ask(site, key, SMALL, messages=long)
    refused = await ask(site, key, messages=long)

    assert (200, SMALL) == (served.status, served.json["model"])
    assert (400, "context_length_exceeded") == (refused.status, refused.error["code"])


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"models": ["nobody"]}, 404, "models[0]"),
        ({"models": [SMALL, "nobody"]}, 404, "models[1]"),
        ({"models": SMALL}, 400, "models"),
        ({"models": [""]}, 400, "models[0]"),
        ({"models": [SMALL] * 9}, 400, "models"),
    ],
)
async def test_what_is_no_list_of_models_is_refused(
    site: Site, fields: dict[str, Any], status: int, param: str
) -> None:
    key = await site.key()

    answer = await ask(site, key, **fields)

    assert (status, param) == (answer.status, answer.error["param"])


async def test_models_that_the_key_may_not_use_are_not_there(site: Site) -> None:
    key = await site.key(models=[TWICE])

    answer = await ask(site, key, FREE)

    assert (404, "models[0]") == (answer.status, answer.error["param"])
