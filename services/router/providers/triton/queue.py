"""How long the queue at a Triton server is, as TensorRT-LLM tells it; pure.

Triton's own figures say nothing of models that generate: they count a request as done when it was
taken. Source: NVIDIA/TensorRT-LLM triton_backend `custom_metrics_reporter` and the README of
tensorrtllm_backend (`nv_trt_llm_request_metrics`), read 2026-11.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

METRICS_BYTES_MAX: Final = 4 * 1024 * 1024
"""Longest page of metrics that is read."""

_COUNT_MAX: Final = 1_000_000
_LINE: Final = re.compile(
    rb"^nv_trt_llm_request_metrics\{([^}\n]{0,1024})\}[ \t]+(\d{1,9}(?:\.\d{1,9})?)", re.MULTILINE
)
_LABEL: Final = re.compile(rb'(\w+)="([^"]*)"')


class Queue(NamedTuple):
    """Requests at a server, whoever sent them: those that wait, and those that run."""

    waiting: int = 0
    active: int = 0


def read_queue(page: bytes, model_name: str) -> Queue | None:
    """Return the queue from a page of metrics; None when it tells nothing of one.

    The figures of the model by this name count, and those of all models where there is none: the
    engine behind a pipeline has a name of its own.
    """
    found: dict[bytes, dict[bytes, float]] = {}
    for labels, value in _LINE.findall(page):
        named = dict(_LABEL.findall(labels))
        kinds = found.setdefault(named.get(b"model", b""), {})
        kinds[named.get(b"request_type", b"")] = float(value)
    if not found:
        return None
    own = found.get(model_name.encode())
    counted = found.values() if own is None else (own,)
    return Queue(*(_total(counted, kind) for kind in (b"waiting", b"active")))


def _total(models: Iterable[Mapping[bytes, float]], kind: bytes) -> int:
    return min(_COUNT_MAX, int(sum(kinds.get(kind, 0.0) for kinds in models)))
