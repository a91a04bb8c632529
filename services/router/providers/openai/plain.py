"""A whole OpenAI completion: checked, put under Turnpike's identity, its usage read.

Pure.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from services.router.providers.openai.choices import chat_choices, completed
from services.router.providers.openai.errors import JUNK, error_in_answer
from services.router.providers.openai.forward import FINISH_REASONS, invalid
from services.router.providers.openai.usage import Usage, estimate, read_usage
from services.router.providers.port import Batch, Call
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2

_BYTES_PER_TOKEN: Final = 4
_NULL: Final = msgspec.Raw(b"null")
_ERROR_OBJECT: Final = msgspec.Raw(b'"error"')
_NEVER_NULL: Final = ("system_fingerprint", "service_tier")
"""Members that an answer leaves out when its upstream has nothing to say in them."""


class Ended(Protocol):
    """A choice of a whole answer, as far as every kind has it."""

    finish_reason: str
    index: int

    @property
    def said(self) -> tuple[msgspec.Raw, ...]:
        """The JSON values that its tokens are guessed from."""


class AnswerForm(NamedTuple):
    """What one kind of whole answer is called, and how its choices are read.

    `completed` makes choices that may be passed on of those that came, raw and read.
    """

    object_name: str
    choices: Callable[[bytes], Sequence[Any]]
    completed: Callable[[msgspec.Raw, Sequence[Any]], msgspec.Raw]


_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
CHAT: Final = AnswerForm("chat.completion", chat_choices, completed)


def read_completion(
    call: Call, body: bytes, *, choice_count: int, form: AnswerForm = CHAT
) -> Batch:
    """Return the only batch of a plain answer.

    `completion` is the upstream's object with Turnpike's id, time and model; the choices are kept
    as they came, unless they lack what OpenAI's always have. Without usage `Finish.usage` is an
    estimate of the completion, at four bytes of answer for a token, and `completion` has no usage.

    Raises:
        ProviderError: It is an error object, no completion, or one that has not ended.
    """
    answer = read_object(body)
    choices = _read_choices(answer, form)
    if len(choices) < choice_count:
        raise invalid("The upstream's answer has too few choices.")
    raw_usage = answer.pop("usage", _NULL)
    usage = None if raw_usage is _NULL else _usage(bytes(raw_usage))
    for name in _NEVER_NULL:
        if answer.get(name) == _NULL:
            del answer[name]
    answer["id"] = call.answer_id
    answer["object"] = form.object_name
    answer["created"] = call.create_unix_s
    answer["model"] = call.model_id
    if usage is not None:
        answer["usage"] = msgspec.Raw(usage.json)
    first = choices[0] if len(choices) == 1 else min(choices, key=lambda choice: choice.index)
    finish = router_pb2.Finish(
        usage_json=usage.json if usage is not None else b"",
        usage=usage.tokens if usage is not None else _estimated(choices),
        finish_reason=first.finish_reason,
    )
    return Batch(completion=msgspec.json.encode(answer), finish=finish)


def read_object(body: bytes) -> dict[str, Any]:
    """Return the members of an answer's object, as JSON.

    Raises:
        ProviderError: It is an error object, or no object.
    """
    try:
        if not body.isascii():
            # msgspec does not look into text that it carries along unread.
            body.decode("utf-8")
        answer: dict[str, Any] = _fields.decode(body)
    except JUNK:
        raise invalid("The upstream's answer is not a JSON object.") from None
    if ("error" in answer and answer["error"] != _NULL) or answer.get("object") == _ERROR_OBJECT:
        raise error_in_answer(body)
    return answer


def _read_choices(answer: dict[str, Any], form: AnswerForm) -> Sequence[Ended]:
    """Return an answer's choices, which are completed in place where they lack something."""
    raw = answer.get("choices", _NULL)
    try:
        choices = form.choices(raw)
        answer["choices"] = form.completed(raw, choices)
    except JUNK:
        raise invalid("The upstream's answer has no valid choices.") from None
    for choice in choices:
        if choice.finish_reason not in FINISH_REASONS:
            break
    else:
        if choices:
            return choices
    raise invalid("The upstream's answer has no choice that ended as it should.")


def _usage(raw: bytes) -> Usage | None:
    return None if raw == b"null" else read_usage(raw)


def _estimated(choices: Sequence[Ended]) -> usage_pb2.TokenUsage:
    """Return the usage of choices that nobody counted: by their length."""
    length = sum(len(bytes(part)) for choice in choices for part in choice.said if part != _NULL)
    return estimate(-(-length // _BYTES_PER_TOKEN))
