"""P1 to P35: the fields of a chat completion that every engine knows, and the routing fields."""

from typing import Any, Final

from tests.rows.table import Case, Invalid, Valid

USER: Final = {"role": "user", "content": "hello"}
TOOL: Final = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
CALL: Final = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city":"Paris"}'},
}
SCHEMA: Final = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
UNSUPPORTED: Final = "unsupported_parameter"


def messages(*more: Any) -> dict[str, Any]:
    return {"messages": list(more)}


def number(name: str, low: float, high: float) -> list[Case]:
    """Cases of a figure between two bounds."""
    return [
        Valid("low", {name: low}, sent={name: low}),
        Valid("high", {name: high}, sent={name: high}),
        Invalid("below", {name: low - 0.1}, name),
        Invalid("above", {name: high + 0.1}, name),
        Invalid("text", {name: "1"}, name),
    ]


def semantic(name: str, *values: Any) -> list[Case]:
    """Cases of a parameter that is honoured or whose route is left out."""
    good: list[Case] = [Valid(f"{value!r}", {name: value}, sent={name: value}) for value in values]
    return [*good, Invalid("no route", {"model": "bare", name: values[0]}, name, UNSUPPORTED)]


CASES: Final[dict[str, list[Case]]] = {
    "P1": [
        Valid("given", sent={"model": "upstream-sea"}, answer=lambda a: a["model"] == "sea"),
        Invalid("missing", {}, "model", "missing_field", absent=("model",)),
        Invalid("unknown", {"model": "none"}, "model", "model_not_found", 404),
        Invalid("not text", {"model": 5}, "model"),
        Invalid("empty", {"model": ""}, "model"),
    ],
    "P2": [
        Valid("given", messages(USER), sent=messages(USER)),
        Invalid("missing", {}, "messages", "missing_field", absent=("messages",)),
        Invalid("empty", messages(), "messages"),
        Invalid("not a list", {"messages": "hello"}, "messages"),
    ],
    "P3": [
        Valid(role, messages({"role": role, "content": "x"}, USER))
        for role in ("system", "developer", "user", "assistant")
    ]
    + [Invalid("king", messages({"role": "king", "content": "x"}), "messages[0].role")],
    "P4": [
        Valid(
            "answers a call",
            messages(
                USER,
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "call_1", "content": "12 degrees"},
            ),
        ),
        Invalid(
            "answers nothing",
            messages(USER, {"role": "tool", "tool_call_id": "call_1", "content": "x"}),
            "messages[1].tool_call_id",
        ),
    ],
    "P5": [
        Valid("text", messages({"role": "user", "content": "hi"})),
        Invalid(
            "missing", messages({"role": "user"}), "messages[0].content", "missing_field"
        ),
        Invalid("number", messages({"role": "user", "content": 5}), "messages[0].content"),
    ],
    "P10": [
        Valid(
            "call and answer",
            messages(
                USER,
                {"role": "assistant", "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "call_1", "content": "x"},
            ),
            sent=messages(
                USER,
                {"role": "assistant", "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "call_1", "content": "x"},
            ),
        ),
        Invalid(
            "not a list",
            messages(USER, {"role": "assistant", "tool_calls": 5}),
            "messages[1].tool_calls",
        ),
    ],
    "P11": [
        Valid("false", {"stream": False}, answer=lambda a: a["object"] == "chat.completion"),
        Invalid("text", {"stream": "yes"}, "stream"),
    ],
    "P12": [
        Valid("null", {"stream_options": None}),
        Invalid(
            "without a stream",
            {"stream": False, "stream_options": {"include_usage": True}},
            "stream_options",
        ),
        Invalid(
            "not a truth value",
            {"stream": True, "stream_options": {"include_usage": 1}},
            "stream_options.include_usage",
        ),
        Invalid(
            "unknown member",
            {"stream": True, "stream_options": {"continuous_usage_stats": False}},
            "stream_options.continuous_usage_stats",
            code="unsupported_parameter",
        ),
    ],
    "P13": [
        Valid("given", {"max_tokens": 5}, sent={"max_tokens": 5}),
        Valid("integral float", {"max_tokens": 5.0}, sent={"max_tokens": 5}),
        Valid(
            "cut by it",
            {"max_tokens": 2},
            answer=lambda a: a["choices"][0]["finish_reason"] == "length",
        ),
        Invalid("zero", {"max_tokens": 0}, "max_tokens"),
        Invalid("negative", {"max_tokens": -1}, "max_tokens"),
        Invalid("fraction", {"max_tokens": 1.5}, "max_tokens"),
    ],
    "P14": [
        Valid("alone", {"max_completion_tokens": 6}, sent={"max_tokens": 6}),
        Valid("the same", {"max_completion_tokens": 6, "max_tokens": 6}, sent={"max_tokens": 6}),
        Invalid(
            "another",
            {"max_completion_tokens": 6, "max_tokens": 7},
            "max_completion_tokens",
        ),
    ],
    "P15": number("temperature", 0, 2),
    "P16": number("top_p", 0, 1),
    "P17": [
        Valid("text", {"stop": "\n"}, sent={"stop": "\n"}),
        Valid("four", {"stop": ["a", "b", "c", "d"]}, sent={"stop": ["a", "b", "c", "d"]}),
        Valid("five where the engine takes them", {"model": "sea-vllm", "stop": list("abcde")}),
        Invalid("five elsewhere", {"stop": list("abcde")}, "stop", UNSUPPORTED),
        Invalid("seventeen", {"stop": ["x"] * 17}, "stop"),
        Invalid("number", {"stop": 5}, "stop"),
    ],
    "P18": [*number("frequency_penalty", -2, 2), *semantic("frequency_penalty", 0.5)],
    "P19": [*number("presence_penalty", -2, 2), *semantic("presence_penalty", 0.5)],
    "P20": [
        Valid("whole", {"seed": 7}, sent={"seed": 7}),
        Valid("null", {"seed": None}),
        Invalid("fraction", {"seed": 1.5}, "seed"),
    ],
    "P21": [
        *semantic("n", 2, 3),
        Valid(
            "as many", {"n": 3}, answer=lambda a: [c["index"] for c in a["choices"]] == [0, 1, 2]
        ),
        Valid("one asks for nothing", {"model": "bare", "n": 1}),
        Invalid("zero", {"n": 0}, "n"),
        Invalid("too many", {"n": 17}, "n"),
    ],
    "P22": [
        *semantic("logprobs", True),
        Valid("false asks for nothing", {"model": "bare", "logprobs": False}),
        Invalid("number", {"logprobs": 1}, "logprobs"),
    ],
    "P23": [
        Valid(
            "five",
            {"logprobs": True, "top_logprobs": 5},
            answer=lambda a: len(a["choices"][0]["logprobs"]["content"][0]["top_logprobs"]) == 5,
        ),
        Valid("twenty", {"logprobs": True, "top_logprobs": 20}, sent={"top_logprobs": 20}),
        Invalid("twenty-one", {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        Invalid("without logprobs", {"top_logprobs": 2}, "top_logprobs"),
        Invalid(
            "no route", {"model": "few", "logprobs": True, "top_logprobs": 6}, "top_logprobs",
            UNSUPPORTED,
        ),
    ],
    "P26": [
        *semantic("tools", [TOOL]),
        Valid("empty asks for nothing", {"model": "bare", "tools": []}),
        Invalid("not a list", {"tools": {}}, "tools"),
    ],
    "P27": [
        *(
            Valid(
                str(choice),
                {"tools": [TOOL], "tool_choice": choice},
                sent={"tool_choice": choice},
            )
            for choice in (
                "auto",
                "none",
                "required",
                {"type": "function", "function": {"name": "get_weather"}},
            )
        ),
        Invalid("number", {"tools": [TOOL], "tool_choice": 5}, "tool_choice"),
        Invalid(
            "no route", {"model": "bare", "tool_choice": "required"}, "tool_choice", UNSUPPORTED
        ),
    ],
    "P28": [
        Valid(
            "false",
            {"tools": [TOOL, TOOL], "parallel_tool_calls": False},
            sent={"parallel_tool_calls": False},
            answer=lambda a: len(a["choices"][0]["message"]["tool_calls"]) == 1,
        ),
        Valid("true asks for nothing", {"model": "bare", "parallel_tool_calls": True}),
        Invalid("no route", {"model": "bare", "parallel_tool_calls": False}, "parallel_tool_calls",
                UNSUPPORTED),
        Invalid("text", {"parallel_tool_calls": "no"}, "parallel_tool_calls"),
    ],
    "P29": [
        Valid("given", {"timeout_ms": 30_000}, absent=("timeout_ms",)),
        Invalid("above", {"timeout_ms": 30_001}, "timeout_ms"),
        Invalid("zero", {"timeout_ms": 0}, "timeout_ms"),
    ],
    **{
        row: [
            Valid(name, {"routing_strategy": name}, absent=("routing_strategy",)),
            Invalid("another", {"routing_strategy": "best"}, "routing_strategy"),
        ]
        for row, name in (("P30", "cheapest"), ("P31", "fastest"), ("P32", "balanced"))
    },
    "P33": [
        Valid("external by default", {"model": "far"}, absent=("allow_external",)),
        Valid("cheapest if allowed",
              {"model": "far", "routing_strategy": "cheapest", "allow_external": True}),
        Invalid("refused", {"model": "far", "allow_external": False}, None,
                "no_providers_available", 503),
        Invalid("cheapest by default", {"model": "far", "routing_strategy": "cheapest"}, None,
                "no_providers_available", 503),
        Invalid("text", {"allow_external": "yes"}, "allow_external"),
    ],
    "P34": [
        Valid("at the price",
              {"max_input_price_per_million": 15, "max_output_price_per_million": 60},
              absent=("max_input_price_per_million", "max_output_price_per_million")),
        Invalid("below", {"max_input_price_per_million": 14, "max_output_price_per_million": 60},
                None, "no_providers_available", 503),
        Invalid("alone", {"max_input_price_per_million": 14}, "max_output_price_per_million",
                "price_ceiling_incomplete"),
        Invalid("fraction", {"max_input_price_per_million": 1.5,
                             "max_output_price_per_million": 1}, "max_input_price_per_million"),
    ],
    "P35": [
        Valid("free at nothing",
              {"model": "free", "max_input_price_per_million": 0,
               "max_output_price_per_million": 0}),
        Invalid("below", {"max_input_price_per_million": 15, "max_output_price_per_million": 59},
                None, "no_providers_available", 503),
        Invalid("alone", {"max_output_price_per_million": 60}, "max_input_price_per_million",
                "price_ceiling_incomplete"),
        Invalid("negative", {"max_input_price_per_million": 1,
                             "max_output_price_per_million": -1}, "max_output_price_per_million"),
    ],
}  # fmt: skip
