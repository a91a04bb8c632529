"""Requests that the served OpenAPI document allows, and ones that it does not, by schemathesis.

No answer is a 500, one of 502, 503 or 504 says why, each has the form that the document promises,
none takes long, and only what was answered by 200 is metered and charged. Row R-B1 of
facts/reliability A5.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import DataObject, SearchStrategy, data, one_of
from schemathesis.config import SchemathesisConfig
from schemathesis.generation import GenerationMode

from gateway.docs.document import PREFIX, document
from gateway.docs.operations import OPERATIONS
from tests.fuzz.bodies import GOOD, mixed, named
from tests.fuzz.conftest import Tally
from tests.fuzz.served import Served, served_site

ANSWER_S = 5.0
"""No answer may take longer; the upstreams answer at once."""

FULL = os.environ.get("HYPOTHESIS_PROFILE") == "fuzz"
EXAMPLES = 500 if FULL else 30
REASONS = {
    502: {"all_providers_failed", "upstream_invalid_response", "upstream_incomplete"},
    503: {"no_providers_available"},
    504: {"timeout"},
}
CHARGED = GOOD.keys() - {"countMessageTokens", "explainRoute"}


@pytest.fixture(scope="module")
def served(migrated_rooms: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("fuzzed") / "site"
    shutil.copytree(migrated_rooms, folder)
    with served_site(folder) as opened:
        yield opened


@pytest.fixture(scope="module")
def charged(served: Served) -> Iterator[Counter[str]]:
    """Count what is answered and costs, and hold the books to it at the end."""
    counts: Counter[str] = Counter()
    yield counts
    served.settled(counts.total())


def _strategies() -> dict[str, SearchStrategy[Any]]:
    """Return by operation what the document allows, and what it does not."""
    config = SchemathesisConfig()
    config.projects.default.generation.update(with_security_parameters=False)
    schema = schemathesis.openapi.from_dict(document("1"), config=config)
    found: dict[str, SearchStrategy[Any]] = {}
    for each in OPERATIONS:
        operation = schema[PREFIX + each.path][each.method]
        modes = [GenerationMode.POSITIVE]
        if each.request is not None or "{" in each.path:
            modes.append(GenerationMode.NEGATIVE)
        found[each.name] = one_of([operation.as_strategy(generation_mode=mode) for mode in modes])
    return found


STRATEGIES = _strategies()


def test_description_that_is_fuzzed_is_the_served_one(served: Served) -> None:
    with urlopen(f"{served.site.url}/openapi.json", timeout=ANSWER_S) as answer:
        assert document("1") == json.load(answer)


@pytest.mark.parametrize("operation", STRATEGIES)
@pytest.mark.timeout(300)
@settings(
    max_examples=EXAMPLES,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(data=data())
def test_no_request_breaks_the_gateway(
    data: DataObject, operation: str, served: Served, charged: Counter[str], tally: Tally
) -> None:
    case = data.draw(STRATEGIES[operation])
    body = mixed(operation, case.body)
    if body is not case.body:
        case.body = body
        case.headers.pop("X-Episode-Id", None)
    if operation == "getModel":
        case.path_parameters["model"] = named(case.path_parameters["model"])

    response = case.call(base_url=served.site.url, headers=served.key.headers, timeout=ANSWER_S)

    tally.add(operation, response.status_code, response.elapsed)
    charged[operation] += response.status_code == 200 and operation in CHARGED
    assert response.status_code != 500, response.text
    if response.status_code in REASONS:
        assert _code(response.json()["error"]) in REASONS[response.status_code], response.text
    (kind,) = response.headers["content-type"]
    if not kind.startswith("text/event-stream"):
        case.validate_response(response, checks=[schemathesis.checks.response_schema_conformance])


def _code(error: dict[str, Any]) -> str:
    """Return why, as OpenAI's or as Anthropic's errors have it."""
    return str(error["code"] if "code" in error else error["details"]["error_code"])
