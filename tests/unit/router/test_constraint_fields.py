"""How each engine is told each constraint: the table of features 6.2, as golden JSON."""

import json
from typing import Any

import msgspec
import pytest

from services.router.constraints import CONSTRAINTS, constraint_of
from services.router.providers.constraint_fields import ignored_hints, trtllm_guide
from services.router.providers.openai.request import encode_request
from services.router.providers.port import Failure, ProviderError
from services.router.providers.triton.vllm import VllmContract, sampling_parameters
from tests.fakes.openai_calls import make_body, make_call
from tests.unit.router.triton_models import VLLM

SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}}
TAG = {"type": "structural_tag", "format": {"type": "any_text"}}
NAMED = {"type": "json_schema", "json_schema": {"name": "p", "schema": SCHEMA, "strict": True}}
OBJECT = {"type": "json_object"}
GRAMMAR = 'root ::= "a"'
HINTS = {"guided_decoding_backend": "xgrammar", "guided_whitespace_pattern": "[ ]?"}
REFUSED = "refused"


def strict(name: str, schema: Any) -> dict[str, Any]:
    part = {"name": name, "schema": schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": part}}


CHOICE_SCHEMA = {
    "type": "object",
    "properties": {"choice": {"type": "string", "enum": ["a.b", "c|d"]}},
    "required": ["choice"],
    "additionalProperties": False,
}
CHOICES = ["a.b", "c|d", "a.b"]
TABLE: list[tuple[str, dict[str, Any], str, Any]] = [
    ("P24", {"response_format": OBJECT}, "openai", {"response_format": OBJECT}),
    ("P24", {"response_format": OBJECT}, "vllm", {"response_format": OBJECT}),
    ("P24", {"response_format": OBJECT}, "sglang", {"response_format": OBJECT}),
    ("P24", {"response_format": OBJECT}, "triton", {"json_object": True}),
    ("P25", {"response_format": NAMED}, "openai", {"response_format": NAMED}),
    ("P25", {"response_format": NAMED}, "vllm", {"response_format": NAMED}),
    ("P25", {"response_format": NAMED}, "sglang", {"response_format": NAMED}),
    ("P25", {"response_format": NAMED}, "triton", {"json": SCHEMA}),
    ("P25", {"response_format": TAG}, "openai", REFUSED),
    ("P25", {"response_format": TAG}, "vllm", {"response_format": TAG}),
    ("P25", {"response_format": TAG}, "sglang", {"response_format": TAG}),
    ("P39", {"guided_json": SCHEMA}, "openai", strict("guided_json", SCHEMA)),
    ("P39", {"guided_json": SCHEMA}, "vllm", {"structured_outputs": {"json": SCHEMA}}),
    ("P39", {"guided_json": SCHEMA}, "sglang", strict("guided_json", SCHEMA)),
    ("P39", {"guided_json": SCHEMA}, "triton", {"json": SCHEMA}),
    ("P40", {"guided_regex": "a+"}, "openai", REFUSED),
    ("P40", {"guided_regex": "a+"}, "vllm", {"structured_outputs": {"regex": "a+"}}),
    ("P40", {"guided_regex": "a+"}, "sglang", {"regex": "a+"}),
    ("P40", {"guided_regex": "a+"}, "triton", {"regex": "a+"}),
    ("P41", {"guided_choice": CHOICES}, "openai", strict("guided_choice", CHOICE_SCHEMA)),
    ("P41", {"guided_choice": CHOICES}, "vllm", {"structured_outputs": {"choice": CHOICES}}),
    ("P41", {"guided_choice": CHOICES}, "sglang", {"regex": r"(a\.b|c\|d|a\.b)"}),
    ("P41", {"guided_choice": CHOICES}, "triton", {"choice": CHOICES}),
    ("P42", {"guided_grammar": GRAMMAR}, "openai", REFUSED),
    ("P42", {"guided_grammar": GRAMMAR}, "vllm", {"structured_outputs": {"grammar": GRAMMAR}}),
    ("P42", {"guided_grammar": GRAMMAR}, "sglang", {"ebnf": GRAMMAR}),
    ("P42", {"guided_grammar": GRAMMAR}, "triton", {"grammar": GRAMMAR}),
    ("P43", {"structural_tag": TAG}, "openai", REFUSED),
    ("P43", {"structural_tag": TAG}, "vllm",
     {"structured_outputs": {"structural_tag": json.dumps(TAG, separators=(",", ":"))}}),
    ("P43", {"structural_tag": TAG}, "sglang", {"response_format": TAG}),
    ("P43", {"structural_tag": TAG}, "triton",
     {"structural_tag": json.dumps(TAG, separators=(",", ":"))}),
    ("P45", {"guided_json": {}, **HINTS}, "vllm",
     {"structured_outputs": {"json": {}, "whitespace_pattern": "[ ]?"}}),
    ("P45", {"response_format": OBJECT, **HINTS}, "vllm",
     {"structured_outputs": {"json_object": True, "whitespace_pattern": "[ ]?"}}),
    ("P45", {"guided_json": {}, **HINTS}, "triton",
     {"json": {}, "whitespace_pattern": "[ ]?"}),
    ("P45", {"guided_json": {}, **HINTS}, "sglang", strict("guided_json", {})),
    ("P45", {"guided_regex": "a", **HINTS}, "triton", {"regex": "a"}),
    ("P44", HINTS, "openai", {}),
    ("P44", HINTS, "triton", {}),
    ("P24", {"response_format": {"type": "text"}}, "openai", {"response_format": {"type": "text"}}),
    ("P24", {"response_format": {"type": "text"}}, "triton", {}),
]  # fmt: skip


def said(fields: dict[str, Any], engine: str) -> Any:
    """Return what a request says about its answer's form to an engine."""
    body = make_body(**fields)
    constraint = constraint_of(body)
    if engine == "triton":
        sampling = json.loads(sampling_parameters(body, max_tokens=5, constraint=constraint))
        assert 5 == sampling.pop("max_tokens")
        inner = sampling.pop("structured_outputs", "{}")
        assert {} == sampling
        assert isinstance(inner, str)
        return json.loads(inner)
    call = make_call(constraint=constraint, options={"engine": engine})
    request = json.loads(encode_request(call, body, max_tokens_field="max_tokens"))
    for name in ("model", "messages", "stream", "stream_options", "max_tokens"):
        del request[name]
    return request


@pytest.mark.parametrize(("row", "fields", "engine", "wanted"), TABLE)
def test_engine_is_told_what_it_understands(
    row: str, fields: dict[str, Any], engine: str, wanted: Any
) -> None:
    if wanted == REFUSED:
        with pytest.raises(ProviderError) as caught:
            said(fields, engine)
        assert (Failure.UNSUPPORTED, *fields) == (caught.value.failure, caught.value.param), row
        return

    assert wanted == said(fields, engine), row


@pytest.mark.parametrize(
    ("fields", "engine", "ignored"),
    [
        ({"guided_json": {}}, "vllm", ()),
        ({"guided_json": {}, **HINTS}, "vllm", ("guided_decoding_backend",)),
        ({"guided_json": {}, **HINTS}, "triton", ("guided_decoding_backend",)),
        ({"guided_json": {}, **HINTS}, "sglang", tuple(HINTS)),
        ({"guided_json": {}, **HINTS}, "openai", tuple(HINTS)),
        ({"guided_regex": "a", **HINTS}, "vllm", tuple(HINTS)),
        (HINTS, "vllm", tuple(HINTS)),
    ],
)
def test_hint_that_means_nothing_to_an_engine_is_ignored(
    fields: dict[str, Any], engine: str, ignored: tuple[str, ...]
) -> None:
    assert ignored == ignored_hints(constraint_of(make_body(**fields)), engine)


def test_choice_in_an_object_has_no_log_probabilities_of_its_own() -> None:
    body = make_body(guided_choice=["a"], logprobs=True)
    call = make_call(constraint=constraint_of(body), options={"engine": "openai"})

    with pytest.raises(ProviderError) as caught:
        encode_request(call, body, max_tokens_field="max_tokens")

    assert Failure.UNSUPPORTED is caught.value.failure


def test_triton_reports_no_mapped_field_as_ignored() -> None:
    body = make_body("hello", nonsense=1, **dict.fromkeys(CONSTRAINTS, 1))

    assert ["nonsense"] == VllmContract(VLLM).ignored(make_call(), body)


@pytest.mark.parametrize(
    ("fields", "guide"),
    [
        ({"response_format": {"type": "text"}}, ("", "")),
        ({"response_format": OBJECT}, ("json", "")),
        ({"response_format": NAMED}, ("json_schema", json.dumps(SCHEMA, separators=(",", ":")))),
        ({"guided_json": {"a": 1}}, ("json_schema", '{"a":1}')),
        ({"guided_regex": "a+"}, ("regex", "a+")),
        ({"guided_choice": CHOICES}, ("regex", r"(a\.b|c\|d|a\.b)")),
        ({"guided_grammar": GRAMMAR}, ("ebnf_grammar", GRAMMAR)),
    ],
)
def test_trtllm_is_told_what_it_understands(fields: dict[str, Any], guide: tuple[str, str]) -> None:
    assert guide == trtllm_guide(constraint_of(make_body(**fields)))


def test_trtllm_has_no_guide_for_a_structural_tag() -> None:
    with pytest.raises(ProviderError) as caught:
        trtllm_guide(constraint_of(make_body(structural_tag=TAG)))

    assert (Failure.UNSUPPORTED, "structural_tag") == (caught.value.failure, caught.value.param)


def test_body_is_left_as_it_came() -> None:
    body = make_body(guided_json=SCHEMA)
    before = dict(body)

    said({"guided_json": SCHEMA}, "vllm")
    call = make_call(constraint=constraint_of(body), options={"engine": "vllm"})
    sent = encode_request(call, body, max_tokens_field="max_tokens")

    assert before == body
    assert "guided_json" not in msgspec.json.decode(sent)
