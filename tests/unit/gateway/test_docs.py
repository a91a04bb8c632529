"""The description of the API: it names what is served, and its pages load nothing."""

import json
import re
import subprocess
import sys
from typing import Any

import jsonschema_rs
import pytest

from gateway.anthropic.schema import OWN_NAMES
from gateway.docs.document import document
from gateway.docs.operations import OPERATIONS, Operation
from gateway.docs.pages import llms_text, reference_page
from gateway.docs.places import BOUNDS
from gateway.openai.fields import KNOWN
from gateway.openai.messages import BLOCK_TYPES
from gateway.routes.table import routes_of
from gateway.settings import GatewaySettings
from tests.house.tree import ROOT


def schema_of(found: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a component with what it refers to, as a schema of its own."""
    text = json.dumps(found["components"]["schemas"]).replace("#/components/schemas/", "#/$defs/")
    return {"$ref": f"#/$defs/{name}", "$defs": json.loads(text)}


def test_every_served_endpoint_is_described_and_no_other() -> None:
    served = {
        (method, path)
        for method, path in routes_of(GatewaySettings()).listed()
        if path.startswith("/v1/") and not path.endswith("/")
    }
    described = {(each.method, "/v1" + re.sub(r"\{\w+\}$", "*", each.path)) for each in OPERATIONS}

    assert served == described


def test_document_names_every_field_that_is_known() -> None:
    found = document("1")

    fields = found["components"]["schemas"]["ChatRequest"]["properties"]
    assert KNOWN == set(fields)
    assert {"type": "http", "scheme": "bearer"} == found["components"]["securitySchemes"]["key"]


def test_references_lead_somewhere() -> None:
    found = document("1")

    names = set(re.findall(r"#/components/schemas/(\w+)", str(found)))
    assert names
    assert names <= found["components"]["schemas"].keys()


def test_names_of_components_are_plain_and_each_is_used() -> None:
    found = document("1")

    names = found["components"]["schemas"].keys()
    assert [] == [name for name in names if not re.fullmatch(r"[A-Z][A-Za-z0-9]+", name)]
    assert set(re.findall(r"#/components/schemas/(\w+)'", str(found))) == set(names)


def test_every_component_is_a_sound_schema() -> None:
    found = document("1")

    for name in found["components"]["schemas"]:
        jsonschema_rs.Draft202012Validator(schema_of(found, name))


USER = {"role": "user", "content": "hi"}
TAKEN: dict[str, dict[str, list[Any]]] = {
    "ChatRequest": {
        "good": [
            {"model": "m", "messages": [USER], "n": 2.0, "x": 1},
            {"model": "m", "messages": [{"role": "user", "content": [{"type": "text"}]}]},
        ],
        "bad": [
            {"model": "m"},
            {"model": "m", "messages": [USER], "n": 17},
            {"model": "m", "messages": [{"role": "user", "content": [{"type": "video"}]}]},
        ],
    },
    "ResponsesRequest": {
        "good": [
            {"model": "m", "input": "hi"},
            {"model": "m", "input": [USER], "tools": [{"type": "function", "name": "f"}]},
            {"model": "m", "input": "hi", "text": {"format": {"type": "json_object"}}},
            {"model": "m", "input": "hi", "guided_regex": "a", "tool_choice": "none"},
        ],
        "bad": [
            {"model": "m"},
            {"input": "hi"},
            {"model": "m", "input": [{"type": "item_reference", "id": "x"}]},
            {"model": "m", "input": "hi", "tools": [{"type": "web_search"}]},
        ],
    },
    "MessagesRequest": {
        "good": [
            {"model": "m", "max_tokens": 5, "messages": [USER], "guided_regex": "a"},
            {"model": "m", "max_tokens": 5, "messages": [USER], "seed": 7},
        ],
        "bad": [
            {"model": "m", "messages": [USER]},
            {"model": "m", "max_tokens": 5, "messages": [USER], "tools": [{"name": "f"}]},
        ],
    },
    "CountRequest": {"good": [{"model": "m", "messages": [USER]}], "bad": [{"model": "m"}]},
    "TranscriptionRequest": {"good": [{"model": "m", "file": "x"}], "bad": [{"model": "m"}]},
}


@pytest.mark.parametrize("name", TAKEN)
def test_schema_of_a_request_takes_what_is_taken_and_nothing_else(name: str) -> None:
    validator = jsonschema_rs.Draft202012Validator(schema_of(document("1"), name))

    assert [] == [each for each in TAKEN[name]["good"] if not validator.is_valid(each)]
    assert [] == [each for each in TAKEN[name]["bad"] if validator.is_valid(each)]


def test_no_request_is_told_of_a_field_that_its_endpoint_refuses() -> None:
    schemas = document("1")["components"]["schemas"]

    assert set() == set(schemas["MessagesRequest"]["properties"]) & set(OWN_NAMES)
    assert set() == set(schemas["ResponsesRequest"]["properties"]) & {"messages", "n", "logprobs"}


def test_every_bounded_field_shows_its_bounds() -> None:
    schemas = document("1")["components"]["schemas"]

    for struct, bounds in BOUNDS.items():
        for name, (least, _) in bounds.items():
            assert f"'minimum': {least}" in str(schemas[struct.__name__]["properties"][name])
    assert list(BLOCK_TYPES) == schemas["Block"]["properties"]["type"]["enum"]


@pytest.mark.parametrize("each", OPERATIONS, ids=lambda each: each.name)
def test_page_and_text_tell_of(each: Operation) -> None:
    page, text = reference_page(document("1")), llms_text()

    assert f"- [{each.method} /v1{each.path}](/docs#{each.name}): {each.summary}" in text
    assert f"<h3 id='{each.name}'><code>{each.method} /v1{each.path}</code></h3>" in page


def test_links_of_the_pages_lead_somewhere_and_nothing_is_loaded() -> None:
    page, text = reference_page(document("1")), llms_text()

    links = set(re.findall(r"href='?#([\w-]+)", page)) | set(re.findall(r"/docs#([\w-]+)", text))
    assert links <= set(re.findall(r"id='([\w-]+)'", page))
    assert not re.search(r"<script|src=|https?://", page)


def test_start_does_not_make_the_description() -> None:
    code = "import sys, gateway.app; print([m for m in sys.modules if 'gateway.docs' in m])"

    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert "[]" == shown.stdout.strip()
