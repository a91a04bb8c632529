"""P6 to P9, P24, P25 and P36 to P45: content blocks, constrained output, and fields of engines."""

from typing import Any, Final

from tests.fixtures.content_blocks import JPEG, PDF, PNG, data_url
from tests.rows.request_cases import SCHEMA, UNSUPPORTED, messages
from tests.rows.table import Case, Invalid, Valid

AT: Final = "messages[0].content[0]"
NAMED: Final = {"name": "place", "schema": SCHEMA, "strict": True}
VLLM: Final = {"model": "sea-vllm"}
TAG: Final = {
    "type": "structural_tag",
    "structures": [{"begin": "<f>", "schema": SCHEMA, "end": "</f>"}],
    "triggers": ["<f>"],
}


def said(*blocks: Any) -> dict[str, Any]:
    """A request whose only message has these blocks."""
    return messages({"role": "user", "content": list(blocks)})


def text(words: str = "look") -> dict[str, Any]:
    return {"type": "text", "text": words}


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def pdf(data: str) -> dict[str, Any]:
    return {"type": "file", "file": {"file_data": data, "filename": "a.pdf"}}


def guided(name: str, good: Any, wanted: Any, *bad: Any) -> list[Case]:
    """Cases of a guide: vLLM is told in its own words, and where no engine can it is refused."""
    return [
        Valid("vllm", {**VLLM, name: good}, sent={"structured_outputs": wanted}, absent=(name,)),
        Invalid("no route", {"model": "bare", name: good}, name, UNSUPPORTED),
        *(Invalid(f"{value!r}", {**VLLM, name: value}, name) for value in bad),
        Invalid(
            "beside another",
            {**VLLM, name: good, "response_format": {"type": "json_object"}},
            name,
        ),
    ]


ENGINE_CASES: Final[dict[str, list[Case]]] = {
    "P6": [
        Valid("two texts", said(text("a"), text("b")), sent=said(text("a"), text("b"))),
        Invalid("unknown type", said({"type": "video"}), f"{AT}.type"),
        Invalid("no block", said(), "messages[0].content"),
        Invalid("not a block", said("x"), AT),
    ],
    "P7": [
        Valid("text", said(text())),
        Invalid("without text", said({"type": "text"}), f"{AT}.text", "missing_field"),
        Invalid("number", said({"type": "text", "text": 5}), f"{AT}.text"),
    ],
    "P8": [
        Valid("data", said(image(data_url(PNG))), sent=said(image(data_url(PNG)))),
        Valid("jpeg", said(text(), image(data_url(JPEG, "image/jpeg")))),
        Valid("https", said(image("https://example.com/image.jpg"))),
        Invalid("http", said(image("http://example.com/a.png")), f"{AT}.image_url.url"),
        Invalid("private", said(image("https://10.0.0.1/a.png")), f"{AT}.image_url.url"),
        Invalid("no image", said(image("data:text/html;base64,AAAA")), f"{AT}.image_url.url"),
        Invalid("no route", {"model": "bare", **said(image(data_url(PNG)))}, "messages",
                UNSUPPORTED),
    ],
    "P9": [
        Valid("pdf", said(pdf(data_url(PDF, "application/pdf")))),
        Invalid("no pdf", said(pdf(data_url(PNG))), f"{AT}.file.file_data"),
        Invalid("no route", {**VLLM, **said(pdf(data_url(PDF, "application/pdf")))}, "messages",
                UNSUPPORTED),
    ],
    "P24": [
        Valid("object", {"response_format": {"type": "json_object"}},
              sent={"response_format": {"type": "json_object"}}),
        Valid("text asks for nothing", {"model": "bare", "response_format": {"type": "text"}}),
        Invalid("no route", {"model": "bare", "response_format": {"type": "json_object"}},
                "response_format", UNSUPPORTED),
        Invalid("another type", {"response_format": {"type": "xml"}}, "response_format.type"),
        Invalid("text", {"response_format": "json"}, "response_format"),
    ],
    "P25": [
        Valid("schema", {"response_format": {"type": "json_schema", "json_schema": NAMED}},
              answer=lambda a: a["choices"][0]["message"]["content"] == '{"city": "Paris"}'),
        Invalid("broken schema",
                {"response_format": {"type": "json_schema",
                                     "json_schema": {**NAMED, "schema": {"type": "town"}}}},
                "response_format.json_schema.schema"),
        Invalid("without one", {"response_format": {"type": "json_schema"}},
                "response_format.json_schema", "missing_field"),
    ],
    "P36": [
        Valid("vllm with the right", {**VLLM, "chat_template": "{{ messages }}"},
              sent={"chat_template": "{{ messages }}"}),
        Invalid("no route", {"chat_template": "{{ messages }}"}, "chat_template", UNSUPPORTED),
        Invalid("empty", {**VLLM, "chat_template": ""}, "chat_template"),
        Invalid("number", {**VLLM, "chat_template": 5}, "chat_template"),
    ],
    "P37": [
        Valid("vllm", {**VLLM, "chat_template_kwargs": {"enable_thinking": True}},
              sent={"chat_template_kwargs": {"enable_thinking": True}}),
        Valid("dropped and named", {"chat_template_kwargs": {"enable_thinking": True}},
              absent=("chat_template_kwargs",)),
        Invalid("text", {"chat_template_kwargs": "x"}, "chat_template_kwargs"),
        Invalid("a template by the back door",
                {**VLLM, "chat_template_kwargs": {"chat_template": "x"}}, "chat_template_kwargs"),
    ],
    "P38": [
        Valid("vllm", {**VLLM, "mm_processor_kwargs": {"num_crops": 4}},
              sent={"mm_processor_kwargs": {"num_crops": 4}}),
        Invalid("no route", {"mm_processor_kwargs": {"num_crops": 4}}, "mm_processor_kwargs",
                UNSUPPORTED),
        Invalid("text", {**VLLM, "mm_processor_kwargs": "x"}, "mm_processor_kwargs"),
    ],
    "P39": guided("guided_json", SCHEMA, {"json": SCHEMA}, 5, {"type": "town"}),
    "P40": guided("guided_regex", "[a-z]+|.*", {"regex": "[a-z]+|.*"}, 5, "(", ""),
    "P41": guided("guided_choice", ["yes", "no"], {"choice": ["yes", "no"]}, [], "yes"),
    "P42": guided("guided_grammar", 'root ::= "a"', {"grammar": 'root ::= "a"'}, 5, ""),
    "P43": [
        Valid("vllm", {**VLLM, "structural_tag": TAG}, absent=("structural_tag",)),
        Invalid("no route", {"structural_tag": TAG}, "structural_tag", UNSUPPORTED),
        Invalid("number", {**VLLM, "structural_tag": 5}, "structural_tag"),
    ],
    "P44": [
        Valid("advice", {**VLLM, "guided_json": SCHEMA, "guided_decoding_backend": "xgrammar"},
              absent=("guided_decoding_backend",)),
        Invalid("number", {**VLLM, "guided_decoding_backend": 5}, "guided_decoding_backend"),
    ],
    "P45": [
        Valid("vllm", {**VLLM, "guided_json": SCHEMA, "guided_whitespace_pattern": " ?"},
              sent={"structured_outputs": {"json": SCHEMA, "whitespace_pattern": " ?"}}),
        Invalid("number", {**VLLM, "guided_whitespace_pattern": 5}, "guided_whitespace_pattern"),
    ],
}  # fmt: skip
