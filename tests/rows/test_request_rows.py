"""Every request field, valid and invalid, in every dialect, against a whole site."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from tests.fakes.openai_model import OpenAiModel, open_openai_model
from tests.fixtures.gateway import Key, OpenSite, Site, Wish
from tests.integration.gateway.wire import answer_of
from tests.rows.engine_cases import ENGINE_CASES
from tests.rows.request_cases import CASES as PLAIN_CASES
from tests.rows.site import catalogue
from tests.rows.table import PREFIXES, Case, Invalid, Valid, code_in

CASES = PLAIN_CASES | ENGINE_CASES
SCOPES = ["chat", "models", "usage", "chat_template"]


@pytest.fixture
async def model() -> AsyncIterator[OpenAiModel]:
    async with open_openai_model() as opened:
        yield opened


@pytest.fixture
async def site(open_site: OpenSite, model: OpenAiModel) -> Site:
    return await open_site(Wish(catalogue=catalogue(model)))


def request_of(case: Case) -> dict[str, Any]:
    usual = {"model": "sea", "messages": [{"role": "user", "content": "hello"}], "stream": False}
    body = {**usual, **case.fields}
    if isinstance(case, Invalid):
        for name in case.absent:
            del body[name]
    return body


@pytest.mark.parametrize("row", CASES)
async def test_field_is_honoured_or_refused(row: str, site: Site, model: OpenAiModel) -> None:
    limits: dict[str, Any] = {"requests_per_minute": 0, "tokens_per_minute": 0}
    key = await site.key(credit_nusd=10**10, scopes=SCOPES, **limits)
    served = 0
    for dialect, prefix in PREFIXES.items():
        for case in CASES[row]:
            where = f"{row} {case.name} in {dialect}"
            before = len(model.seen)
            answer = await answer_of(
                site.post(key, request_of(case), prefix=prefix, **case.headers)
            )
            if isinstance(case, Valid):
                assert 200 == answer.status, (where, answer.body)
                check_served(where, case, answer.json, model.seen[-1])
                served += 1
            else:
                check_refused(where, case, dialect, answer)
                assert before == len(model.seen), where
    assert served
    await check_books(site, key, served)


def check_served(where: str, case: Valid, answer: Any, sent: Mapping[str, Any]) -> None:
    assert case.sent == {name: sent.get(name) for name in case.sent}, where
    assert not set(case.absent) & sent.keys(), where
    assert case.answer(answer), (where, answer)


def check_refused(where: str, case: Invalid, dialect: str, answer: Any) -> None:
    error = answer.error
    assert (case.status, case.param) == (answer.status, error["param"]), (where, error)
    assert code_in(dialect, case.code, case.status) == error.get("code"), (where, error)


async def check_books(site: Site, key: Key, served: int) -> None:
    """Only what was served is metered and charged."""
    records = await site.settled(key, served)
    assert {"completed"} == {record.outcome for record in records}
