"""A dialect is data: what the seeds disagree about, one row each.

Chosen by key, else by path prefix. Source: `facts/features.md` section 2 and DESIGN section 6.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class UsagePlacement(StrEnum):
    """Where a stream's usage goes when the caller did not say."""

    FINISH_CHUNK = "finish_chunk"
    ONLY_IF_ASKED = "only_if_asked"
    ALWAYS_FINISH_CHUNK = "always_finish_chunk"


class CodeForm(StrEnum):
    """How `error.code` is written."""

    LOWER = "lower"
    UPPER = "upper"
    STATUS = "status"
    OMITTED = "omitted"


@dataclass(frozen=True, slots=True)
class Dialect:
    """Defaults and shapes of one API flavour; `max_tokens` None means the model's own default.

    `is_ranked_by_sum` ranks by the sum of both prices what others rank by a request's estimate;
    `has_empty_fields` shows `episode_id` always, and as empty what other answers leave out.
    """

    name: str
    is_streaming_default: bool = False
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    usage: UsagePlacement = UsagePlacement.FINISH_CHUNK
    id_prefix: str = "chatcmpl-"
    text_id_prefix: str = "cmpl-"
    code_form: CodeForm = CodeForm.LOWER
    auth_error_type: str = "authentication_error"
    is_ranked_by_sum: bool = False
    has_empty_fields: bool = False


DIALECTS: Final = {
    "openai": Dialect(name="openai"),
    "vram": Dialect(
        name="vram",
        is_streaming_default=True,
        max_tokens=4096,
        temperature=1.0,
        usage=UsagePlacement.ALWAYS_FINISH_CHUNK,
        code_form=CodeForm.OMITTED,
        auth_error_type="auth_error",
        is_ranked_by_sum=True,
    ),
    "infer": Dialect(name="infer", temperature=1.0, top_p=1.0, code_form=CodeForm.UPPER),
    "bud": Dialect(
        name="bud",
        usage=UsagePlacement.ALWAYS_FINISH_CHUNK,
        id_prefix="",
        text_id_prefix="",
        code_form=CodeForm.STATUS,
        has_empty_fields=True,
    ),
    "runinfra": Dialect(
        name="runinfra",
        max_tokens=512,
        temperature=1.0,
        top_p=1.0,
        usage=UsagePlacement.ONLY_IF_ASKED,
        code_form=CodeForm.OMITTED,
    ),
}
OPENAI: Final = DIALECTS["openai"]
PATHS_MAX: Final = 256
"""Paths whose dialect is remembered; clients can invent more."""


class PathDialects:
    """Which dialect a path speaks: that of its longest prefix; the answer is remembered."""

    def __init__(self, prefixes: Mapping[str, str]) -> None:
        self._prefixes = sorted(prefixes.items(), key=lambda item: -len(item[0]))
        self._known: dict[str, Dialect] = {}

    def of(self, path: str) -> Dialect:
        """Return the dialect of a path; `openai` when no prefix fits."""
        found = self._known.get(path)
        if found is None:
            found = self._find(path)
            if len(self._known) < PATHS_MAX:
                self._known[path] = found
        return found

    def _find(self, path: str) -> Dialect:
        for prefix, name in self._prefixes:
            if path.startswith(prefix + "/"):
                return DIALECTS[name]
        return OPENAI
