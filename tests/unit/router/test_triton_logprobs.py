"""Log probabilities of vLLM in OpenAI's form."""

import json
from typing import Any

import msgspec
import pytest
from openai.types.chat import ChatCompletionTokenLogprob

from services.router.providers.port import Failure, ProviderError
from services.router.providers.triton.logprobs import logprob_entries


def told(rank: int, token: str | None, logprob: float) -> dict[str, Any]:
    return {"logprob": logprob, "rank": rank, "decoded_token": token}


def entries(tokens: Any, top_count: int) -> list[Any]:
    return [msgspec.json.decode(each) for each in logprob_entries(json.dumps(tokens), top_count)]


def test_first_token_is_the_sampled_one_and_the_others_are_in_order_of_rank() -> None:
    tokens = {"9": told(7, " rare", -4.0), "3": told(2, " b", -1.5), "4": told(1, " a", -0.5)}

    (entry,) = entries([tokens], 2)

    assert (" rare", -4.0, list(b" rare")) == (entry["token"], entry["logprob"], entry["bytes"])
    assert [" a", " b"] == [each["token"] for each in entry["top_logprobs"]]
    assert ChatCompletionTokenLogprob.model_validate(entry, strict=True)


def test_sampled_token_is_among_the_likeliest_when_it_is_one() -> None:
    tokens = {"4": told(1, "é", -0.5), "3": told(2, "\ufffd", -1.5)}

    (two,), (none,) = entries([tokens], 2), entries([tokens], 0)

    assert [list("é".encode()), None] == [each["bytes"] for each in two["top_logprobs"]]
    assert [] == none["top_logprobs"]


def test_token_that_cannot_be_has_the_least_probability_that_json_can_say() -> None:
    tokens = {"1": told(1, "a", -0.1), "2": told(2, None, float("-inf"))}

    (entry,) = entries([tokens], 2)

    assert ("", -9999.0) == (entry["top_logprobs"][1]["token"], entry["top_logprobs"][1]["logprob"])


def test_nothing_is_nothing() -> None:
    assert [] == list(logprob_entries("null", 1)) == list(logprob_entries("[]", 1))


@pytest.mark.parametrize(
    "text",
    ["", "{", "3", "[3]", "[{}]", '[{"1": 2}]', '[{"1": {}}]', '{"a": 1}', "[" * 9999]
    + [json.dumps([{"1": {**told(1, "a", 0), name: []}}]) for name in ("logprob", "rank")],
)  # fmt: skip
def test_something_else_is_an_invalid_response(text: str) -> None:
    with pytest.raises(ProviderError) as caught:
        list(logprob_entries(text, 1))

    assert Failure.INVALID_RESPONSE is caught.value.failure
