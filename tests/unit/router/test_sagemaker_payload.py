"""What containers on SageMaker say, cut anywhere, is read as if it had come in one piece."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.providers.aws.sagemaker import SageMakerCodec
from services.router.providers.aws.sagemaker_bodies import OpenAiBody
from services.router.providers.port import Batch, Failure, ProviderError
from tests.fakes.aws_calls import folded, tokens_of
from tests.fakes.event_stream import event, exception
from tests.fakes.openai_calls import make_body, make_call
from tests.fakes.openai_script import Script, StreamWriter
from tests.fakes.sagemaker_upstream import line

CODEC = SageMakerCodec(OpenAiBody(), {})
SIZES = st.lists(st.integers(1, 200), max_size=12)


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    found = []
    for size in sizes:
        found.append(data[:size])
        data = data[size:]
    return [piece for piece in (*found, data) if piece]


def fed(reads: list[bytes]) -> list[Batch]:
    translator = CODEC.translator(make_call(), make_body())
    found = []
    for read in reads:
        if (batch := translator.feed(read)) is not None:
            found.append(batch)
        if translator.is_done:
            return found
    return [*found, translator.end()]


@given(
    script=st.builds(
        Script,
        chunks=st.integers(1, 4),
        done=st.integers(0, 1),
        line=st.sampled_from(["lf", "crlf"]),
        usage=st.sampled_from(["extra", "finish", "every"]),
    ),
    has_lines=st.booleans(),
    parts=SIZES,
    reads=SIZES,
)
def test_any_cut_gives_the_same_answer(
    script: Script, has_lines: bool, parts: list[int], reads: list[int]
) -> None:
    events = [one.data for one in StreamWriter(script, {}).events()]
    data = b"".join(map(line, events)) if has_lines else b"".join(events)
    kind = "application/octet-stream"
    stream = b"".join(event("PayloadPart", part, kind) for part in pieces(data, parts))

    found = fed(pieces(stream, reads))

    said = "".join(f"tok{index} " for index in range(script.chunks))
    assert {"role": "assistant", "content": said, "finish_reason": "stop"} == folded(found)
    assert (12, script.chunks) == tokens_of(found[-1])
    assert script.chunks == sum(batch.content_event_count for batch in found)


@pytest.mark.parametrize(
    ("stream", "failure"),
    [
        (exception("ModelStreamError", b'{"Message":"secret"}'), Failure.UNAVAILABLE),
        (exception("Unheard", b"secret"), Failure.UNAVAILABLE),
        (event("PayloadPart", b"data: {oops\n\n"), Failure.INVALID_RESPONSE),
        (event("PayloadPart", b'{"error":{"code":400,"message":"secret"}}\n'), Failure.REJECTED),
        (event("PayloadPart", b'{"choices"'), Failure.INCOMPLETE),
        (event("Unheard", b"{}"), Failure.INCOMPLETE),
        (b"", Failure.INCOMPLETE),
    ],
)
def test_what_is_no_answer_is_refused(stream: bytes, failure: Failure) -> None:
    with pytest.raises(ProviderError) as caught:
        fed([stream])

    assert failure is caught.value.failure
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("operation", [3, 4, 5])
def test_pictures_and_sound_are_not_served(operation: Any) -> None:
    with pytest.raises(ProviderError) as caught:
        CODEC.encode(make_call(operation=operation), make_body(), {})

    assert Failure.UNSUPPORTED is caught.value.failure
    assert json.loads(CODEC.encode(make_call(), make_body(), {}).body)["max_tokens"] == 100
