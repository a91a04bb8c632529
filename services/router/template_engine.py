"""The sandbox that chat templates run in: compiles a source, and writes a prompt within bounds.

Used in the router's process for the operator's templates and in `template_worker` for a client's.
The sandbox keeps a template from everything but its variables; it does not bound time or memory.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from jinja2 import Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from services.router.template_jobs import Job, Result, Trouble, decode_job, encode

OUTSIDE: Final = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    RecursionError,
)
"""What a template can raise while it is compiled or runs."""


class TemplateRefusalError(Exception):
    """The template called `raise_exception`."""


class PromptTooLongError(Exception):
    """The template writes more than it may."""


def compile_template(source: str, *, strftime_now: Callable[[str], str]) -> Template:
    """Return a template that can be written; raises jinja2's `TemplateSyntaxError`."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = strftime_now
    return environment.from_string(source)


def write(template: Template, given: Mapping[str, Any], *, chars_max: int) -> str:
    """Return what a template makes of its variables.

    Raises:
        TemplateRefusalError: The template refuses them.
        PromptTooLongError: It writes more than `chars_max` characters.
    """
    pieces, size = [], 0
    for piece in template.generate(given):
        pieces.append(piece)
        size += len(piece)
        if size > chars_max:
            raise PromptTooLongError
    return "".join(pieces)


def variables(
    messages: list[dict[str, Any]], named: Mapping[str, Any], *, bos_token: str, eos_token: str
) -> dict[str, Any]:
    """Return what every chat template is given; `named` cannot replace any of it."""
    return {
        **named,
        "messages": messages,
        "tools": None,
        "documents": None,
        "add_generation_prompt": True,
        "bos_token": bos_token,
        "eos_token": eos_token,
    }


def run_job(data: bytes) -> bytes:
    """Return the result of a `Job`, both as JSON."""
    try:
        return encode(Result(_render(decode_job(data))))
    except TemplateRefusalError:
        return encode(Result(trouble=Trouble.REFUSED))
    except PromptTooLongError:
        return encode(Result(trouble=Trouble.TOO_LONG))
    except Exception:  # noqa: BLE001 - a stranger's template may raise anything; its text stays here
        return encode(Result(trouble=Trouble.BROKEN))


def _render(job: Job) -> str:
    def strftime_now(pattern: str) -> str:
        return datetime.fromtimestamp(job.unix_s, UTC).strftime(pattern)

    given = variables(job.messages, job.named, bos_token=job.bos_token, eos_token=job.eos_token)
    template = compile_template(job.source, strftime_now=strftime_now)
    return write(template, given, chars_max=job.chars_max)


def _tojson(value: Any, indent: int | None = None) -> str:  # noqa: ANN401 - any value of a template
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(_message: str = "") -> NoReturn:
    raise TemplateRefusalError
