"""How each engine is told about templates and processors: rows P36 to P38."""

from typing import Any

import msgspec
import pytest

from services.router.providers.openai.content import ignored_prompt_fields
from services.router.providers.openai.request import encode_request
from services.router.providers.port import Body, Call, Failure, ProviderError

FIELDS: dict[str, Any] = {
    "chat_template": "{{ messages }}",
    "chat_template_kwargs": {"enable_thinking": False},
    "mm_processor_kwargs": {"num_crops": 4},
}
MAPPED = {"engine": "openai", "thinking": "reasoning_effort"}


def a_call(**options: str) -> Call:
    return Call("r", "c", 1, "m", "up", False, 16, b"", 1.0, options)


def a_body(**fields: Any) -> Body:
    return msgspec.json.decode(msgspec.json.encode(fields), type=dict[str, msgspec.Raw])


def sent(options: dict[str, str], **fields: Any) -> dict[str, Any]:
    """Return what of the fields reaches the upstream."""
    body = a_body(messages=[], **fields)
    request = msgspec.json.decode(
        encode_request(a_call(**options), body, max_tokens_field="max_tokens")
    )
    for name in ("messages", "model", "stream", "max_tokens"):
        del request[name]
    return dict(request)


@pytest.mark.parametrize(
    ("engine", "name"),
    [
        pytest.param("vllm", "chat_template", id="P36-vllm"),
        pytest.param("vllm", "chat_template_kwargs", id="P37-vllm"),
        pytest.param("vllm", "mm_processor_kwargs", id="P38-vllm"),
        pytest.param("sglang", "chat_template_kwargs", id="P37-sglang"),
    ],
)
def test_engine_that_knows_a_field_is_told(engine: str, name: str) -> None:
    fields = {name: FIELDS[name]}

    assert fields == sent({"engine": engine}, **fields)
    assert [] == ignored_prompt_fields(a_call(engine=engine), a_body(**fields))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        pytest.param({"engine": "sglang"}, "chat_template", id="P36-sglang"),
        pytest.param({"engine": "openai"}, "chat_template", id="P36-openai"),
        pytest.param({}, "chat_template", id="P36-untold"),
        pytest.param({"engine": "sglang"}, "mm_processor_kwargs", id="P38-sglang"),
        pytest.param({"engine": "openai"}, "mm_processor_kwargs", id="P38-openai"),
    ],
)
def test_engine_that_does_not_know_a_field_is_not_asked(options: dict[str, str], name: str) -> None:
    with pytest.raises(ProviderError) as caught:
        sent(options, **{name: FIELDS[name]})

    assert (Failure.UNSUPPORTED, 400, name) == (
        caught.value.failure,
        caught.value.status,
        caught.value.param,
    )


@pytest.mark.parametrize(
    ("options", "fields", "expected", "is_told"),
    [
        pytest.param({}, {"enable_thinking": False}, {}, False, id="P37-untold"),
        pytest.param({"engine": "openai"}, {"enable_thinking": True}, {}, False, id="P37-openai"),
        pytest.param(
            MAPPED, {"enable_thinking": False}, {"reasoning_effort": "none"}, True, id="P37-off"
        ),
        pytest.param(
            MAPPED, {"enable_thinking": True}, {"reasoning_effort": "medium"}, True, id="P37-on"
        ),
        pytest.param(
            MAPPED,
            {"enable_thinking": False, "x": 1},
            {"reasoning_effort": "none"},
            False,
            id="P37-part",
        ),
        pytest.param(MAPPED, {"x": 1}, {}, False, id="P37-other"),
        pytest.param(MAPPED, {"enable_thinking": "no"}, {}, False, id="P37-text"),
    ],
)
def test_other_engines_are_told_about_thinking_at_most(
    options: dict[str, str], fields: dict[str, Any], expected: dict[str, Any], is_told: bool
) -> None:
    found = sent(options, chat_template_kwargs=fields)
    ignored = ignored_prompt_fields(a_call(**options), a_body(chat_template_kwargs=fields))

    assert expected == found
    assert ([] if is_told else ["chat_template_kwargs"]) == ignored


def test_effort_that_the_caller_names_itself_stands() -> None:
    fields = {"chat_template_kwargs": {"enable_thinking": False}, "reasoning_effort": "high"}

    assert {"reasoning_effort": "high"} == sent(MAPPED, **fields)
    assert ["chat_template_kwargs"] == ignored_prompt_fields(a_call(**MAPPED), a_body(**fields))
