"""What a request may ask of the form of an answer: rows P24, P25 and P39 to P45 of the features."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from gateway.call import ModelCall
from gateway.openai.constraints import CHOICE_CHARS_MAX, CHOICES_MAX, SCHEMA_BYTES_MAX
from gateway.openai.envelope import read_chat
from kit.errors import Reason, TurnpikeError
from tests.fixtures.rules import rules
from tests.house.tree import ROOT

SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
STRUCTURE = {"begin": "<f>", "schema": SCHEMA, "end": "</f>"}
TAG = {"type": "structural_tag", "structures": [STRUCTURE], "triggers": ["<f>"]}
NEWER_TAG = {"type": "structural_tag", "format": {"type": "any_text"}}
DEEP = json.loads('{"not":' * 100 + "{}" + "}" * 100)
FORMAT = "response_format"


def read(**fields: Any) -> ModelCall:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    return read_chat(json.dumps(body).encode(), rules())


def json_schema(**changes: Any) -> dict[str, Any]:
    part = {"name": "person", "schema": SCHEMA, "strict": True, **changes}
    return {"type": "json_schema", "json_schema": {k: v for k, v in part.items() if v != "absent"}}


@pytest.mark.parametrize(
    ("row", "fields", "features"),
    [
        ("P24", {FORMAT: {"type": "text"}}, ()),
        ("P24", {FORMAT: None}, ()),
        ("P24", {FORMAT: {"type": "json_object"}}, (FORMAT,)),
        ("P25", {FORMAT: json_schema()}, (FORMAT,)),
        ("P25", {FORMAT: json_schema(strict=None, description="d")}, (FORMAT,)),
        ("P25", {FORMAT: json_schema(strict=False)}, (FORMAT,)),
        ("P25", {FORMAT: TAG}, (FORMAT, "structural_tag")),
        ("P39", {"guided_json": SCHEMA}, ("guided_json",)),
        ("P39", {"guided_json": json.dumps(SCHEMA)}, ("guided_json",)),
        ("P39", {"guided_json": {"properties": {"a": {"$ref": "#"}}}}, ("guided_json",)),
        ("P39", {"guided_json": {}}, ("guided_json",)),
        ("P39", {"guided_json": None}, ()),
        ("P40", {"guided_regex": "[a-z]+@[a-z]+"}, ("guided_regex",)),
        ("P41", {"guided_choice": ["yes", "no"]}, ("guided_choice",)),
        ("P41", {"guided_choice": ["x"] * CHOICES_MAX}, ("guided_choice",)),
        ("P42", {"guided_grammar": 'root ::= "yes" | "no"'}, ("guided_grammar",)),
        ("P43", {"structural_tag": TAG}, ("structural_tag",)),
        ("P43", {"structural_tag": json.dumps(TAG)}, ("structural_tag",)),
        ("P43", {"structural_tag": NEWER_TAG}, ("structural_tag",)),
        ("P44", {"guided_decoding_backend": "xgrammar"}, ()),
        ("P44", {"guided_json": {}, "guided_decoding_backend": "outlines"}, ("guided_json",)),
        ("P45", {"guided_json": {}, "guided_whitespace_pattern": "[ ]?"}, ("guided_json",)),
        ("P45", {"guided_whitespace_pattern": None}, ()),
        ("one", {FORMAT: {"type": "text"}, "guided_regex": "a"}, ("guided_regex",)),
        ("one", {"guided_json": None, "guided_regex": "a"}, ("guided_regex",)),
    ],
)
def test_constraint_is_a_feature_of_the_route(
    row: str, fields: dict[str, Any], features: tuple[str, ...]
) -> None:
    assert features == read(**fields).features, row


@pytest.mark.parametrize(
    ("row", "fields", "param"),
    [
        ("P24", {FORMAT: "json"}, FORMAT),
        ("P24", {FORMAT: {"type": "yaml"}}, f"{FORMAT}.type"),
        ("P24", {FORMAT: {"type": ["text"]}}, f"{FORMAT}.type"),
        ("P24", {FORMAT: {}}, f"{FORMAT}.type"),
        ("P25", {FORMAT: {"type": "json_schema"}}, f"{FORMAT}.json_schema"),
        ("P25", {FORMAT: {"type": "json_schema", "json_schema": 5}}, f"{FORMAT}.json_schema"),
        ("P25", {FORMAT: json_schema(name="absent")}, f"{FORMAT}.json_schema.name"),
        ("P25", {FORMAT: json_schema(name="")}, f"{FORMAT}.json_schema.name"),
        ("P25", {FORMAT: json_schema(name=5)}, f"{FORMAT}.json_schema.name"),
        ("P25", {FORMAT: json_schema(name="x" * 65)}, f"{FORMAT}.json_schema.name"),
        ("P25", {FORMAT: json_schema(schema="absent")}, f"{FORMAT}.json_schema.schema"),
        ("P25", {FORMAT: json_schema(schema=[])}, f"{FORMAT}.json_schema.schema"),
        ("P25", {FORMAT: json_schema(schema={"type": 5})}, f"{FORMAT}.json_schema.schema"),
        ("P25", {FORMAT: json_schema(strict="yes")}, f"{FORMAT}.json_schema.strict"),
        ("P39", {"guided_json": {"type": "strin"}}, "guided_json"),
        ("P39", {"guided_json": "{"}, "guided_json"),
        ("P39", {"guided_json": "[1]"}, "guided_json"),
        ("P39", {"guided_json": True}, "guided_json"),
        ("P39", {"guided_json": DEEP}, "guided_json"),
        ("P39", {"guided_json": json.dumps(DEEP)}, "guided_json"),
        ("P39", {"guided_json": "[" * 50_000}, "guided_json"),
        ("P39", {"guided_json": {"title": "x" * SCHEMA_BYTES_MAX}}, "guided_json"),
        ("P39", {"guided_json": {"$ref": "https://example.com/s.json"}}, "guided_json"),
        ("P39", {"guided_json": {"$ref": "#"}}, "guided_json"),
        ("P39", {"guided_json": {"pattern": "(a{999}){999}"}}, "guided_json"),
        ("P40", {"guided_regex": "("}, "guided_regex"),
        ("P40", {"guided_regex": "(?=a)"}, "guided_regex"),
        ("P40", {"guided_regex": ""}, "guided_regex"),
        ("P40", {"guided_regex": 5}, "guided_regex"),
        ("P40", {"guided_regex": "a" * 5_000}, "guided_regex"),
        ("P41", {"guided_choice": []}, "guided_choice"),
        ("P41", {"guided_choice": "yes"}, "guided_choice"),
        ("P41", {"guided_choice": ["yes", 5]}, "guided_choice[1]"),
        ("P41", {"guided_choice": [""]}, "guided_choice[0]"),
        ("P41", {"guided_choice": ["x" * (CHOICE_CHARS_MAX + 1)]}, "guided_choice[0]"),
        ("P41", {"guided_choice": ["x"] * (CHOICES_MAX + 1)}, "guided_choice"),
        ("P42", {"guided_grammar": ""}, "guided_grammar"),
        ("P42", {"guided_grammar": {}}, "guided_grammar"),
        ("P42", {"guided_grammar": "x" * 65_537}, "guided_grammar"),
        ("P43", {"structural_tag": "tag"}, "structural_tag"),
        ("P43", {"structural_tag": {}}, "structural_tag"),
        ("P43", {"structural_tag": TAG | {"type": "text"}}, "structural_tag.type"),
        ("P43", {"structural_tag": TAG | {"triggers": [""]}}, "structural_tag"),
        ("P43", {"structural_tag": TAG | {"structures": []}}, "structural_tag"),
        ("P43", {"structural_tag": TAG | {"structures": [5]}}, "structural_tag.structures[0]"),
        ("P43", {"structural_tag": TAG | {"structures": [STRUCTURE | {"schema": {"type": 5}}]}},
         "structural_tag.structures[0].schema"),
        ("P44", {"guided_decoding_backend": 5}, "guided_decoding_backend"),
        ("P44", {"guided_decoding_backend": "x" * 257}, "guided_decoding_backend"),
        ("P45", {"guided_whitespace_pattern": "("}, "guided_whitespace_pattern"),
        ("one", {FORMAT: {"type": "json_object"}, "guided_json": {}}, "guided_json"),
        ("one", {"guided_json": {}, "guided_choice": ["a"]}, "guided_choice"),
        ("one", {"guided_regex": "a", "structural_tag": TAG}, "structural_tag"),
        ("one", {"guided_regex": "a", "structured_outputs": {"json": {}}}, "structured_outputs"),
        ("one", {"guided_json": {}, "ebnf": "root ::= x"}, "ebnf"),
    ],
)  # fmt: skip
def test_constraint_that_cannot_be_kept_is_refused_by_name(
    row: str, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(TurnpikeError) as caught:
        read(**fields)

    error = caught.value
    assert error.metadata["param"].startswith(param), row
    assert error.reason in (Reason.INVALID_VALUE, Reason.MISSING_FIELD)
    assert error.message.endswith(".")


def test_json_in_a_string_becomes_json_and_a_tag_says_its_type() -> None:
    call = read(guided_json=json.dumps(SCHEMA), guided_whitespace_pattern=None)
    tag = read(structural_tag=json.dumps({k: v for k, v in TAG.items() if k != "type"}))

    assert SCHEMA == json.loads(bytes(call.fields["guided_json"]))
    assert "guided_whitespace_pattern" not in call.fields
    assert TAG == json.loads(bytes(tag.fields["structural_tag"]))


def test_plain_request_loads_no_schema_library() -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}]}).encode()
    program = (
        "import sys\n"
        "from gateway.openai.envelope import read_chat\n"
        "from tests.fixtures.rules import rules\n"
        f"read_chat({body!r}, rules())\n"
        "print({'jsonschema_rs', 're2'} & set(sys.modules))"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'protos' / 'gen'}"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert "set()" == done.stdout.strip()
