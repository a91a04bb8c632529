"""A client's template and the arguments of templates and processors: rows P36 to P38."""

import json
from typing import Any

import pytest

from gateway.call import ModelCall
from gateway.openai import content as module
from gateway.openai.envelope import bounds, read_chat
from kit.errors import Reason, TurnpikeError
from tests.fixtures.content_blocks import chat_body
from tests.fixtures.rules import rules
from tests.fixtures.sizes import ModelSizes

HELLO = {"role": "user", "content": "Hello"}
TRUSTED = frozenset({"chat", "chat_template"})
TEMPLATE = "{{ messages[0].content }}"


def read(scopes: frozenset[str] = TRUSTED, **fields: Any) -> ModelCall:
    return read_chat(chat_body(HELLO, **fields), rules(scopes=scopes))


@pytest.mark.parametrize(
    ("fields", "features"),
    [
        pytest.param({"chat_template": TEMPLATE}, ("chat_template",), id="P36"),
        pytest.param({"chat_template_kwargs": {"enable_thinking": True}}, (), id="P37"),
        pytest.param({"chat_template_kwargs": {"deep": {"a": [1]}}}, (), id="P37-nested"),
        pytest.param({"chat_template_kwargs": {}}, (), id="P37-empty"),
        pytest.param({"mm_processor_kwargs": {"num_crops": 4}}, ("mm_processor_kwargs",), id="P38"),
        pytest.param(
            {"chat_template": TEMPLATE, "mm_processor_kwargs": {"a": 1}},
            ("chat_template", "mm_processor_kwargs"),
            id="P36-P38",
        ),
    ],
)
def test_template_fields_are_forwarded_and_ask_for_a_capable_route(
    fields: dict[str, Any], features: tuple[str, ...]
) -> None:
    call = read(**fields)

    assert features == call.features
    assert fields == {name: json.loads(bytes(call.fields[name])) for name in fields}


@pytest.mark.parametrize("name", ["chat_template", "chat_template_kwargs", "mm_processor_kwargs"])
def test_null_asks_for_nothing(name: str) -> None:
    call = read(frozenset(), **{name: None})

    assert () == call.features
    assert name not in call.fields


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        pytest.param({"chat_template": ""}, "chat_template", id="P36-empty"),
        pytest.param({"chat_template": {}}, "chat_template", id="P36-object"),
        pytest.param(
            {"chat_template": "x" * (module.TEMPLATE_BYTES_MAX + 1)}, "chat_template", id="P36-long"
        ),
        pytest.param({"chat_template_kwargs": "x"}, "chat_template_kwargs", id="P37-text"),
        pytest.param(
            {"chat_template_kwargs": dict.fromkeys(map(str, range(33)))},
            "chat_template_kwargs",
            id="P37-many",
        ),
        pytest.param(
            {"chat_template_kwargs": {"a": "x" * module.ARGUMENTS_BYTES_MAX}},
            "chat_template_kwargs",
            id="P37-long",
        ),
        *(
            pytest.param(
                {"chat_template_kwargs": {name: "x"}}, "chat_template_kwargs", id=f"P37-{name}"
            )
            for name in ("chat_template", "messages", "tokenize", "bos_token", "tools")
        ),
        pytest.param({"mm_processor_kwargs": [1]}, "mm_processor_kwargs", id="P38-list"),
        pytest.param(
            {"mm_processor_kwargs": {"a": "x" * module.ARGUMENTS_BYTES_MAX}},
            "mm_processor_kwargs",
            id="P38-long",
        ),
    ],
)
def test_bad_template_fields_are_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(TurnpikeError) as caught:
        read(**fields)

    assert (Reason.INVALID_VALUE, param) == (caught.value.reason, caught.value.metadata["param"])


def test_key_without_the_scope_may_not_bring_a_template() -> None:
    with pytest.raises(TurnpikeError) as caught:
        read(frozenset({"chat"}), chat_template=TEMPLATE)

    assert Reason.KEY_SCOPE == caught.value.reason
    assert "chat_template" == caught.value.metadata["param"]


@pytest.mark.parametrize(
    "fields", [{"chat_template": TEMPLATE}, {"mm_processor_kwargs": {"max_pixels": 10**9}}]
)
def test_prompt_that_the_client_shapes_is_bounded_by_the_context_alone(
    fields: dict[str, Any],
) -> None:
    limit = bounds(read(**fields), ModelSizes(5000, 16, 512))

    assert 5000 == limit.prompt_tokens_max
