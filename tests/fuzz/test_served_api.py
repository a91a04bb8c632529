"""Requests that the served OpenAPI document allows, and ones that it does not, by schemathesis.

No answer is a 500, one of 502, 503 or 504 says why, each has the form that the document promises,
none takes long, and only what was answered by 200 is metered and charged.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.config import SchemathesisConfig
from schemathesis.generation import GenerationMode

from gateway.docs.document import document
from tests.fuzz.served import Served, served_site

ANSWER_S = 5.0
"""No answer may take longer; the upstream answers at once."""

FULL = os.environ.get("HYPOTHESIS_PROFILE") == "fuzz"
EXAMPLES = 300 if FULL else 30
REASONS = {
    502: {"all_providers_failed", "upstream_invalid_response", "upstream_incomplete"},
    503: {"no_providers_available"},
    504: {"timeout"},
}
MODELS = ["sea", "sea-vllm", "bare", "far", "sea:salt", "turnpike::function_name::assistant"]


@pytest.fixture(scope="module")
def served(migrated_rooms: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    import shutil

    folder = tmp_path_factory.mktemp("fuzzed") / "site"
    shutil.copytree(migrated_rooms, folder)
    with served_site(folder) as opened:
        yield opened


@pytest.fixture(scope="module")
def answers(served: Served) -> Iterator[Counter[tuple[str, int]]]:
    """Count answers, and hold the books to them at the end."""
    counts: Counter[tuple[str, int]] = Counter()
    yield counts
    charged = sum(
        count for (method, status), count in counts.items() if method == "POST" and status == 200
    )
    records = served.run(served.site.settled(served.key, charged)) if charged < 1000 else []
    assert {"completed"} >= {record.outcome for record in records}


config = SchemathesisConfig()
config.projects.default.generation.update(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
schema = schemathesis.openapi.from_dict(document("1"), config=config)


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_request_breaks_the_gateway(
    case: Any, served: Served, answers: Counter[tuple[str, int]]
) -> None:
    if isinstance(case.body, dict) and len(answers) % 3 and "model" in case.body:
        case.body["model"] = MODELS[sum(answers.values()) % len(MODELS)]
    response = case.call(base_url=served.site.url, headers=served.key.headers, timeout=ANSWER_S)

    answers[case.method, response.status_code] += 1
    assert response.status_code != 500, response.text
    if response.status_code in REASONS:
        assert response.json()["error"]["code"] in REASONS[response.status_code], response.text
    (kind,) = response.headers["content-type"]
    if not kind.startswith("text/event-stream"):
        case.validate_response(response, checks=[schemathesis.checks.response_schema_conformance])
