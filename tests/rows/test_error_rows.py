"""Errors: one case for each row and dialect, with what the client sees."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.fakes.openai_model import OpenAiModel, open_openai_model
from tests.fakes.openai_upstream import OpenAiUpstream, open_openai_upstream
from tests.fixtures.gateway import Key, OpenSite, Site, Wish
from tests.integration.gateway.wire import answer_of
from tests.rows.request_cases import USER
from tests.rows.site import catalogue
from tests.rows.table import PREFIXES, code_in

CASES: dict[str, list[tuple[dict[str, Any], int, str, str]]] = {
    "X1": [
        ({"body": {"model": "sea"}}, 400, "missing_field", "invalid_request_error"),
        ({"raw": b"{oops"}, 400, "invalid_json", "invalid_request_error"),
    ],
    "X2": [({"secret": "sk-tp-wrong"}, 401, "invalid_api_key", "authentication_error")],
    "X3": [({"credit_nusd": 0}, 402, "insufficient_quota", "billing_error")],
    "X5": [
        ({"body": {"model": "none"}}, 404, "model_not_found", "not_found_error"),
        (
            {"body": {"model": "tensorzero::function_name::none"}},
            404,
            "function_not_found",
            "not_found_error",
        ),
    ],
    "X6": [({"requests_per_minute": 1}, 429, "rate_limit_exceeded", "rate_limit_error")],
    "X8": [
        (
            {"body": {"model": "broken", "provider": {"allow_fallbacks": False}}},
            502,
            "all_providers_failed",
            "server_error",
        )
    ],
    "X9": [
        (
            {"body": {"model": "far", "allow_external": False}},
            503,
            "no_providers_available",
            "server_error",
        )
    ],
}
"""What is done differently, and the status, code and type that follow."""


@pytest.fixture
async def model() -> AsyncIterator[OpenAiModel]:
    async with open_openai_model() as opened:
        yield opened


@pytest.fixture
async def broken() -> AsyncIterator[OpenAiUpstream]:
    async with open_openai_upstream() as opened:
        yield opened


@pytest.fixture
async def site(open_site: OpenSite, model: OpenAiModel, broken: OpenAiUpstream) -> Site:
    found = catalogue(model)
    found["providers"]["broken"] = {**found["providers"]["open"], "base_url": broken.base_url}
    entry = found["models"]["sea"]
    deployment = {**entry["deployments"][0], "name": "broken-here", "provider": "broken"}
    found["models"]["broken"] = {**entry, "aliases": [], "deployments": [deployment]}
    return await open_site(Wish(catalogue=found))


async def refused(site: Site, prefix: str, case: dict[str, Any]) -> Any:
    """Do what the case says and return the answer that is refused."""
    limits = {"requests_per_minute": case.get("requests_per_minute", 0), "tokens_per_minute": 0}
    key = await site.key(credit_nusd=case.get("credit_nusd", 10**9), **limits)
    if "secret" in case:
        key = Key(key.account_id, key.key_id, case["secret"])
    messages = [{"role": "user", "content": "fake=status:500"}]
    body = {"model": "sea", "stream": False, "messages": messages, **case.get("body", {})}
    if case.get("body") == {"model": "sea"}:
        del body["messages"]
    if "requests_per_minute" in case:
        assert 200 == (await answer_of(site.post(key, body, prefix=prefix))).status
    if "raw" not in case:
        return await answer_of(site.post(key, body, prefix=prefix))
    headers = {**key.headers, "Content-Type": "application/json"}
    url = f"{site.url}{prefix}/chat/completions"
    return await answer_of(site.http.post(url, data=case["raw"], headers=headers))


@pytest.mark.parametrize("row", CASES)
async def test_error_is_told_in_every_dialect(row: str, site: Site) -> None:
    for dialect, prefix in PREFIXES.items():
        for case, status, code, kind in CASES[row]:
            answer = await refused(site, prefix, case)
            where = (row, dialect, answer.body)
            told = kind
            if status == 401 and dialect == "vram":
                told = "auth_error"
            assert (status, told) == (answer.status, answer.error["type"]), where
            assert code_in(dialect, code, status) == answer.error.get("code"), where
            assert ("Retry-After" in answer.headers) == (status in (429, 503)), where


async def test_x7_what_breaks_inside_is_500_and_says_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await site.key()

    def explode(*_arguments: Any) -> None:
        raise ZeroDivisionError("secret inside")

    monkeypatch.setattr(site.gateway.deps.admission, "order", explode)

    for dialect, prefix in PREFIXES.items():
        answer = await answer_of(
            site.post(key, {"model": "sea", "messages": [USER]}, prefix=prefix)
        )
        assert (500, "server_error") == (answer.status, answer.error["type"])
        assert code_in(dialect, "internal", 500) == answer.error.get("code")
        assert b"secret" not in answer.body


async def test_x10_bud_writes_the_status_as_the_code(site: Site) -> None:
    key = await site.key()

    answer = await answer_of(site.post(key, {"model": "sea"}, prefix="/bud/v1"))

    assert ("invalid_request_error", 400) == (answer.error["type"], answer.error["code"])
