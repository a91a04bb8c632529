"""What bodies of completions and embeddings are read as, and what is refused by which name."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.call import Bounds, ModelCall, PromptSize, ReadRules
from gateway.models import KnownModel
from gateway.openai.completions import read_completion
from gateway.openai.dialect import DIALECTS
from gateway.openai.embeddings import read_embeddings
from gateway.openai.texts import text_bounds
from kit.errors import Reason, TurnpikeError
from tests.fixtures.rules import rules
from tests.fixtures.sizes import ModelSizes
from turnpike.router.v1 import router_pb2

DEEP = b"[" * 100_000 + b"]" * 100_000
INVALID, MISSING = Reason.INVALID_VALUE, Reason.MISSING_FIELD
UNSUPPORTED, NO_JSON = Reason.UNSUPPORTED_PARAMETER, Reason.INVALID_JSON


def completion(**more: Any) -> bytes:
    return json.dumps({"model": "m", "prompt": "Hello"} | more).encode()


def embeddings(**more: Any) -> bytes:
    return json.dumps({"model": "m", "input": "Hello"} | more).encode()


def refusal(read: Callable[[bytes, ReadRules], ModelCall], raw: bytes, **how: Any) -> TurnpikeError:
    with pytest.raises(TurnpikeError) as caught:
        read(raw, rules(**how))
    return caught.value


@pytest.mark.parametrize(
    ("raw", "reason", "param"),
    [
        (b"", NO_JSON, None),
        (b"[]", INVALID, None),
        (b'{"model":"m","prompt":"\\ud800"}', NO_JSON, None),
        (b'{"model":"m","prompt":"\xff"}', NO_JSON, None),
        (b'{"model":"m","prompt":%b}' % DEEP, None, None),
        (completion()[:-1] + b',"x":%b}' % DEEP, NO_JSON, None),
        (b'{"prompt":"x"}', MISSING, "model"),
        (b'{"model":"m"}', MISSING, "prompt"),
        (completion(model=""), INVALID, "model"),
        (completion(prompt=5), INVALID, "prompt"),
        (completion(prompt=None), INVALID, "prompt"),
        (completion(prompt=[]), INVALID, "prompt"),
        (completion(prompt=[[]]), INVALID, "prompt[0]"),
        (completion(prompt=["a", 1]), INVALID, "prompt[1]"),
        (completion(prompt=[1, "a"]), INVALID, "prompt[0]"),
        (completion(prompt=[1, -1]), INVALID, "prompt[1]"),
        (completion(prompt=[[1], "a"]), INVALID, "prompt[1]"),
        (completion(prompt=[[1], [-1]]), INVALID, "prompt[1][0]"),
        (completion(prompt=[1.5]), INVALID, "prompt[0]"),
        (completion(prompt=[True]), INVALID, "prompt[0]"),
        (completion(prompt=["a"] * 129), INVALID, "prompt"),
        (completion(stream="yes"), INVALID, "stream"),
        (completion(stream_options={}), INVALID, "stream_options"),
        (
            completion(stream=True, stream_options={"continuous_usage_stats": True}),
            UNSUPPORTED,
            "stream_options.continuous_usage_stats",
        ),
        (completion(max_tokens=0), INVALID, "max_tokens"),
        (completion(max_tokens=1.5), INVALID, "max_tokens"),
        (completion(max_tokens=2**31), INVALID, "max_tokens"),
        (completion(n=0), INVALID, "n"),
        (completion(n=17), INVALID, "n"),
        (completion(best_of=0), INVALID, "best_of"),
        (completion(best_of=21), INVALID, "best_of"),
        (completion(n=3, best_of=2), INVALID, "best_of"),
        (completion(best_of=2, stream=True), INVALID, "best_of"),
        (completion(logprobs=6), INVALID, "logprobs"),
        (completion(logprobs=-1), INVALID, "logprobs"),
        (completion(logprobs=True), INVALID, "logprobs"),
        (completion(echo="yes"), INVALID, "echo"),
        (completion(suffix=1), INVALID, "suffix"),
        (completion(stop=5), INVALID, "stop"),
        (completion(stop=["x"] * 17), INVALID, "stop"),
        (completion(temperature=2.1), INVALID, "temperature"),
        (completion(top_p=1.1), INVALID, "top_p"),
        (completion(frequency_penalty=3), INVALID, "frequency_penalty"),
        (completion(presence_penalty=-3), INVALID, "presence_penalty"),
        (completion(logit_bias={"1": 101}), INVALID, "logit_bias[...]"),
        (completion(logit_bias=[1]), INVALID, "logit_bias"),
        (completion(seed=2**64), INVALID, "seed"),
        (completion(user=5), INVALID, "user"),
        (completion(timeout_ms=0), INVALID, "timeout_ms"),
        (completion(timeout_ms=30_001), INVALID, "timeout_ms"),
        (completion(messages=[]), UNSUPPORTED, "messages"),
        (completion(tools=[]), UNSUPPORTED, "tools"),
        (completion(response_format={}), UNSUPPORTED, "response_format"),
        (completion(max_completion_tokens=5), UNSUPPORTED, "max_completion_tokens"),
    ],
)
def test_bad_completion_is_refused_by_the_field_at_fault(
    raw: bytes, reason: Reason | None, param: str | None
) -> None:
    error = refusal(read_completion, raw)

    assert (reason or error.reason) is error.reason
    assert 400 == error.outward.http_status
    if reason is not None:
        assert param == error.metadata.get("param")


def test_padding_that_is_not_made_is_told() -> None:
    options = {"include_obfuscation": True}

    call = read_completion(completion(stream=True, stream_options=options), rules())

    assert ("stream_options.include_obfuscation",) == call.ignored


@pytest.mark.parametrize(
    ("raw", "reason", "param"),
    [
        (b"", NO_JSON, None),
        (b'{"input":"x"}', MISSING, "model"),
        (b'{"model":"m"}', MISSING, "input"),
        (b'{"model":"m","input":"\\ud800"}', NO_JSON, None),
        (embeddings(input=""), INVALID, "input"),
        (embeddings(input=[]), INVALID, "input"),
        (embeddings(input=["a", ""]), INVALID, "input[1]"),
        (embeddings(input=[[1], []]), INVALID, "input[1]"),
        (embeddings(input=["a", [1]]), INVALID, "input[1]"),
        (embeddings(input={"text": "a"}), INVALID, "input"),
        (embeddings(input=["a"] * 2049), INVALID, "input"),
        (embeddings(encoding_format="int8"), INVALID, "encoding_format"),
        (embeddings(dimensions=0), INVALID, "dimensions"),
        (embeddings(dimensions=1.5), INVALID, "dimensions"),
        (embeddings(dimensions=65_537), INVALID, "dimensions"),
        (embeddings(dimensions="8"), INVALID, "dimensions"),
        (embeddings(stream=True), INVALID, "stream"),
        (embeddings(user=5), INVALID, "user"),
        (embeddings(timeout_ms=0), INVALID, "timeout_ms"),
    ],
)
def test_bad_embeddings_request_is_refused_by_the_field_at_fault(
    raw: bytes, reason: Reason, param: str | None
) -> None:
    error = refusal(read_embeddings, raw)

    assert (reason, param) == (error.reason, error.metadata.get("param"))


@pytest.mark.parametrize(
    "name", ["guided_json", "structural_tag", "chat_template", "functions", "modalities"]
)
def test_what_means_something_in_chat_alone_is_refused_and_never_dropped(name: str) -> None:
    for read, raw in (
        (read_completion, completion(**{name: 1})),
        (read_embeddings, embeddings(**{name: 1})),
    ):
        error = refusal(read, raw)
        assert (UNSUPPORTED, name) == (error.reason, error.metadata["param"])


def test_unknown_fields_are_carried_and_named_and_refused_to_strict_keys() -> None:
    for read, raw in (
        (read_completion, completion(zeta=1, alpha=2)),
        (read_embeddings, embeddings(zeta=1, alpha=2)),
    ):
        call = read(raw, rules())
        error = refusal(read, raw, is_strict=True)

        assert ("alpha", "zeta") == call.unknown_fields
        assert b"2" == bytes(call.fields["alpha"])
        assert (UNSUPPORTED, "alpha") == (error.reason, error.metadata["param"])


def test_completion_is_read_with_openais_default_length_and_every_feature_named() -> None:
    plain = read_completion(completion(), rules())
    full = read_completion(
        completion(prompt=["ab", "abc"], n=2, best_of=3, logprobs=0, echo=True, suffix="end",
                   frequency_penalty=1, presence_penalty=0, logit_bias={"5": 1}, max_tokens=7.0,
                   stop=["x"], seed=3, user="u"),
        rules(),
    )  # fmt: skip

    assert (16, 1, (), (PromptSize(5),)) == (
        plain.asked_max_tokens,
        plain.choice_count,
        plain.features,
        plain.prompts,
    )
    assert router_pb2.OPERATION_COMPLETION == plain.operation == full.operation
    assert (7, 6, (PromptSize(5), PromptSize(6))) == (
        full.asked_max_tokens,
        full.choice_count,
        full.prompts,
    )
    named = {"n", "best_of", "logprobs", "echo", "suffix", "frequency_penalty", "logit_bias"}
    assert named == set(full.features)


@pytest.mark.parametrize(
    ("dialect", "is_streaming", "max_tokens", "fields"),
    [
        ("openai", False, 16, set()),
        ("vram", True, 4096, {"temperature"}),
        ("infer", False, 16, {"temperature", "top_p"}),
        ("bud", False, 16, set()),
        ("runinfra", False, 512, {"temperature", "top_p"}),
    ],
)
def test_completion_takes_its_dialects_defaults(
    dialect: str, is_streaming: bool, max_tokens: int, fields: set[str]
) -> None:
    call = read_completion(completion(), rules(dialect))

    assert (is_streaming, max_tokens) == (call.is_streaming, call.asked_max_tokens)
    assert {"model", "prompt", *fields} == set(call.fields)


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        ("ä€", (PromptSize(5),)),
        (["a", "bcd"], (PromptSize(1), PromptSize(3))),
        ([1, 2, 3], (PromptSize(0, 3),)),
        ([[1, 2], [3]], (PromptSize(0, 2), PromptSize(0, 1))),
    ],
)
def test_embeddings_are_never_streamed_and_sized_input_by_input(
    given: Any, sizes: tuple[PromptSize, ...]
) -> None:
    for dialect in DIALECTS:
        call = read_embeddings(embeddings(input=given, stream=False), rules(dialect))

        assert (False, sizes) == (call.is_streaming, call.prompts)
        assert "stream" not in call.fields
        assert router_pb2.OPERATION_EMBEDDING == call.operation


def bounds_of(call: ModelCall, *, context: int = 1000, rate: int = 512) -> Bounds:
    return text_bounds(call, ModelSizes(context, 50, rate))


@pytest.mark.parametrize(
    ("raw", "bounds"),
    [
        (completion(prompt="x" * 100), Bounds(16, 54, 16)),
        (completion(prompt="x" * 100, suffix="y" * 100, n=2), Bounds(16, 104, 32)),
        (completion(prompt=["x" * 100] * 3, n=2, best_of=4), Bounds(16, 162, 192)),
        (completion(prompt=[7] * 100), Bounds(16, 104, 16)),
        (completion(prompt="x" * 3000, max_tokens=900), Bounds(250, 1000, 250)),
    ],
)
def test_completion_is_held_prompt_by_prompt_and_choice_by_choice(
    raw: bytes, bounds: Bounds
) -> None:
    assert bounds == bounds_of(read_completion(raw, rules()))


@pytest.mark.parametrize(
    ("raw", "prompt_tokens_max"),
    [
        (embeddings(input="x" * 100), 54),
        (embeddings(input=["x" * 100] * 2000), 108_000),
        (embeddings(input=["x" * 15_000, "y"]), 1000 + 5),
        (embeddings(input=[[1] * 1000, [2]]), 1000 + 5),
    ],
)
def test_vectors_hold_their_prompts_and_no_completion(raw: bytes, prompt_tokens_max: int) -> None:
    assert Bounds(0, prompt_tokens_max, 0) == bounds_of(read_embeddings(raw, rules()))


@pytest.mark.parametrize(
    ("read", "raw", "param"),
    [
        (read_completion, completion(prompt="x" * 16_000), "prompt"),
        (read_completion, completion(prompt=[1] * 1000), "prompt"),
        (read_embeddings, embeddings(input=["a", "x" * 16_016]), "input"),
        (read_embeddings, embeddings(input=[[1], [2] * 1001]), "input"),
    ],
)
def test_prompt_that_cannot_fit_is_refused(
    read: Callable[[bytes, ReadRules], ModelCall], raw: bytes, param: str
) -> None:
    call = read(raw, rules())

    with pytest.raises(TurnpikeError) as caught:
        bounds_of(call)

    found = caught.value
    assert (Reason.CONTEXT_LENGTH_EXCEEDED, param) == (found.reason, found.metadata["param"])


@pytest.mark.parametrize("operations", [[], [router_pb2.OPERATION_UNSPECIFIED], [0, 77]])
def test_model_of_another_release_is_known_by_what_it_serves_at_least(
    operations: list[int],
) -> None:
    message = router_pb2.Model(model_id="m", operations=operations)  # type: ignore[arg-type]

    error = KnownModel.of(message).not_served(router_pb2.OPERATION_EMBEDDING)

    assert error.message.startswith("m serves chat completions")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["model", "prompt", "input", "n", "best_of", "logprobs", "max_tokens", "stop", "suffix", "echo",
     "dimensions", "encoding_format", "logit_bias", "stream", "stream_options", "seed", "user"]
)  # fmt: skip


@given(st.dictionaries(NAMES, JSON))
def test_no_body_is_worse_than_refused(values: dict[str, Any]) -> None:
    for read, least in ((read_completion, {"prompt": "x"}), (read_embeddings, {"input": "x"})):
        raw = json.dumps({"model": "m", **least, **values}).encode()
        with suppress(TurnpikeError):
            bounds_of(read(raw, rules()))
