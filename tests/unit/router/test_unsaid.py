"""What a wire format has no words for."""

import msgspec
import pytest

from services.router.providers.port import Body, Failure, ProviderError
from services.router.providers.unsaid import SEMANTIC, unsaid


def body_of(**fields: object) -> Body:
    return msgspec.json.decode(msgspec.json.encode(fields), type=Body)


def test_rest_is_told_in_order() -> None:
    body = body_of(model="m", stream=True, user="u", seed=1, metadata={"a": 1}, store=False)

    assert ("metadata", "user") == unsaid(body, frozenset({"seed"}))


@pytest.mark.parametrize("name", sorted(SEMANTIC - {"response_format"}))
def test_each_semantic_field_is_refused_unless_it_is_said(name: str) -> None:
    value: object = False if name == "parallel_tool_calls" else "something"
    body = body_of(**{name: value})
    if name.startswith("guided_") or name == "structural_tag":
        assert () == unsaid(body, frozenset())
        return

    with pytest.raises(ProviderError) as caught:
        unsaid(body, frozenset())

    assert (Failure.UNSUPPORTED, name) == (caught.value.failure, caught.value.param)
    assert () == unsaid(body, frozenset({name}))


def test_values_that_ask_for_nothing_are_passed_over() -> None:
    nothing = {"n": 1, "tool_choice": "auto", "parallel_tool_calls": True, "top_logprobs": 0}

    assert () == unsaid(body_of(**nothing, logit_bias={}, logprobs=False), frozenset())
