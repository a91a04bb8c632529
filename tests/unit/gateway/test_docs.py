"""The description of the API: it names what is served, and its pages load nothing."""

import re

from gateway.docs.document import document
from gateway.docs.operations import OPERATIONS
from gateway.docs.pages import llms_text, reference_page
from gateway.openai.fields import KNOWN
from gateway.routes.table import routes_of
from gateway.settings import GatewaySettings


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


def test_page_and_text_name_every_endpoint() -> None:
    page, text = reference_page(document("1")), llms_text()

    for each in OPERATIONS:
        assert f"{each.method} /v1{each.path}" in text
        assert f"{each.method} /v1{each.path}" in page
    assert not re.search(r"<script|src=|https?://", page)
