"""The response object of a whole answer: complete, and telling what was asked."""

import json
from typing import Any

import pytest
from openai.types.responses import Response

from gateway.responses.answer import whole_response
from tests.fixtures.responses import ask
from tests.fixtures.strict import strictly
from tests.unit.gateway.responses.chunks import REQUEST_ID, USAGE_JSON, completion

GOLDEN: dict[str, Any] = {
    "id": f"resp_{REQUEST_ID}",
    "object": "response",
    "created_at": 1_760_000_000,
    "status": "completed",
    "background": False,
    "completed_at": None,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "model": "ours/model",
    "output": [
        {
            "id": f"rs_{REQUEST_ID}_0",
            "type": "reasoning",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "Hm"}],
            "status": "completed",
        },
        {
            "id": f"msg_{REQUEST_ID}_1",
            "type": "message",
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []},
                {"type": "refusal", "refusal": "No."},
            ],
            "status": "completed",
        },
        {
            "id": f"fc_{REQUEST_ID}_2",
            "type": "function_call",
            "call_id": "call_a",
            "name": "f",
            "arguments": "{}",
            "status": "completed",
        },
    ],
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "prompt_cache_retention": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": None,
    "store": False,
    "temperature": None,
    "text": {"format": {"type": "text"}, "verbosity": None},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": None,
    "truncation": "disabled",
    "usage": {
        "input_tokens": 12,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 19,
    },
    "user": None,
    "metadata": {},
}
MESSAGE = {
    "content": "Hi",
    "refusal": "No.",
    "reasoning_content": "Hm",
    "tool_calls": [
        {"id": "call_a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ],
}


def whole(body: bytes, **asked: Any) -> Any:
    call, request = ask(**asked)
    answer = json.loads(whole_response(body, call, request, REQUEST_ID))
    strictly(Response, answer)
    return answer


def test_answer_is_complete() -> None:
    assert GOLDEN == whole(completion(MESSAGE))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"instructions": "Be brief."}, {"instructions": "Be brief."}),
        ({"max_output_tokens": 7.0}, {"max_output_tokens": 7}),
        ({"max_tool_calls": 3}, {"max_tool_calls": 3}),
        ({"temperature": 0.5, "top_p": 1}, {"temperature": 0.5, "top_p": 1}),
        ({"dialect": "infer"}, {"temperature": 1.0, "top_p": 1.0}),
        ({"parallel_tool_calls": False}, {"parallel_tool_calls": False}),
        ({"metadata": {"a": "b"}}, {"metadata": {"a": "b"}}),
        ({"user": "u", "safety_identifier": "s", "prompt_cache_key": "k",
          "prompt_cache_retention": "24h"},
         {"user": "u", "safety_identifier": "s", "prompt_cache_key": "k",
          "prompt_cache_retention": "24h"}),
        ({"reasoning": {"effort": "low", "summary": "auto"}},
         {"reasoning": {"effort": "low", "summary": None}}),
        ({"top_logprobs": 2}, {"top_logprobs": 2}),
        ({"text": {"format": {"type": "json_object"}, "verbosity": "low"}},
         {"text": {"format": {"type": "json_object"}, "verbosity": "low"}}),
        ({"text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}},
         {"text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}},
                   "verbosity": None}}),
        ({"tools": [{"type": "function", "name": "f"}], "tool_choice": "none"},
         {"tools": [{"type": "function", "name": "f", "description": None, "parameters": None,
                     "strict": False}], "tool_choice": "none"}),
        ({"tools": [{"type": "function", "name": "f"}],
          "tool_choice": {"type": "function", "name": "f"}},
         {"tool_choice": {"type": "function", "name": "f"}}),
        ({"tools": [{"type": "function", "name": "f"}, {"type": "function", "name": "g"}],
          "tool_choice": {"type": "allowed_tools", "mode": "auto",
                          "tools": [{"type": "function", "name": "g"}]}},
         {"tool_choice": {"type": "allowed_tools", "mode": "auto",
                          "tools": [{"type": "function", "name": "g"}]}}),
    ],
)  # fmt: skip
def test_answer_tells_what_was_asked(asked: dict[str, Any], told: dict[str, Any]) -> None:
    answer = whole(completion(MESSAGE), **asked)

    assert told == {name: answer[name] for name in told}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (USAGE_JSON, (12, 4, 7, 3, 19)),
        ({"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}, (5, 0, 6, 0, 11)),
        ({"prompt_tokens": 5, "completion_tokens": 6, "prompt_cache_hit_tokens": 9},
         (5, 5, 6, 0, 11)),
        ({"prompt_tokens": 5.0, "completion_tokens": 6, "prompt_tokens_details": None,
          "completion_tokens_details": {"reasoning_tokens": None}}, (5, 0, 6, 0, 11)),
    ],
)  # fmt: skip
def test_usage_is_told_in_the_words_of_responses(usage: Any, expected: tuple[int, ...]) -> None:
    told = whole(completion(MESSAGE, usage=usage))["usage"]

    details = told["input_tokens_details"], told["output_tokens_details"]
    assert expected == (
        told["input_tokens"],
        details[0]["cached_tokens"],
        told["output_tokens"],
        details[1]["reasoning_tokens"],
        told["total_tokens"],
    )


@pytest.mark.parametrize(
    ("reason", "status", "details"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", {"reason": "content_filter"}),
    ],
)
def test_a10_end_of_the_answer_is_told_truthfully(reason: str, status: str, details: Any) -> None:
    answer = whole(completion(MESSAGE, reason))

    assert (status, details) == (answer["status"], answer["incomplete_details"])
    assert status == answer["output"][-1]["status"]
