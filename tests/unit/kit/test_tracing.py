"""Spans: which word of a failure is noted, and that an early end is none."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from kit.errors import Reason, TurnpikeError
from kit.tracing import OpenSpan, Tracing, open_tracing

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Settings:
    otlp_endpoint = ""
    sample_ratio = 0.0


@contextmanager
def span_of(tracing: Tracing) -> Iterator[OpenSpan]:
    sampled = tracing.sampled(PARENT)
    assert sampled is not None
    with tracing.span("a", sampled) as span:
        yield span


async def only_span(*failures: BaseException | str) -> ReadableSpan:
    """Return the span that failures were noted in; texts are told, exceptions pass through."""
    exporter = InMemorySpanExporter()
    async with open_tracing(Settings(), service_name="x", exporter=exporter) as tracing:
        try:
            with span_of(tracing) as span:
                for failure in failures:
                    if isinstance(failure, BaseException):
                        raise failure
                    span.fail(failure)
        except (TurnpikeError, OSError, GeneratorExit):
            pass
    (made,) = exporter.get_finished_spans()
    return made


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        ((TurnpikeError(Reason.TIMEOUT, "A secret."),), "TIMEOUT"),
        ((OSError("A secret."),), "OSError"),
        (("unavailable", "timeout", OSError("A secret.")), "unavailable"),
    ],
)
async def test_the_first_failure_is_noted_by_its_reason_or_class(
    failures: tuple[BaseException | str, ...], expected: str
) -> None:
    made = await only_span(*failures)

    assert {"error.type": expected} == made.attributes
    assert "ERROR" == made.status.status_code.name
    assert "secret" not in made.to_json()


async def test_a_generator_that_is_closed_early_did_not_fail() -> None:
    made = await only_span(GeneratorExit())

    assert ("UNSET", {}) == (made.status.status_code.name, made.attributes)


async def test_a_later_hop_never_starts_a_trace_of_its_own() -> None:
    exporter = InMemorySpanExporter()
    async with open_tracing(Settings(), service_name="x", exporter=exporter) as on:
        found = [on.continued(text) for text in ("", "nonsense", PARENT[:-1] + "0")]
        taken = on.continued(PARENT)

    assert [None] * 3 == found
    assert taken is not None
