"""Log lines: their form, and that nothing secret gets into them."""

import asyncio
import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import Reason, TurnpikeError
from kit.logs import configure_logs
from kit.redaction import HIDDEN_NAMES, MASK, TEXT_LENGTH_MAX, Redactor, is_hidden
from tests.fixtures.plain_logs import plain_logs
from turnpike.events.v1.events_pb2 import UsageEvent

CANARY: Final = "canary-4711/ö+secret"
PROMPT: Final = "tell me about the red heron"
LIBRARIES: Final = ("aiohttp.server", "nats.aio.client", "grpc", "sqlalchemy.engine", "alembic")


class Lines:
    """What was logged."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    @property
    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def last(self) -> dict[str, Any]:
        return self.all[-1]


@pytest.fixture
def lines() -> Iterator[Lines]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    levels = {name: logging.getLogger(name).level for name in logging.root.manager.loggerDict}
    redactor = Redactor()
    redactor.register(CANARY)
    stream = io.StringIO()
    configure_logs(level="info", stream=stream, redactor=redactor)
    # A logger that is kept would write here for all tests that follow.
    structlog.configure(cache_logger_on_first_use=False)
    yield Lines(stream)
    root.handlers, root.level = handlers, level
    for name in logging.root.manager.loggerDict:
        logging.getLogger(name).setLevel(levels.get(name, logging.NOTSET))
    logging.captureWarnings(capture=False)
    plain_logs()


@pytest.fixture
def log(lines: Lines) -> structlog.stdlib.BoundLogger:
    logger: structlog.stdlib.BoundLogger = structlog.get_logger("room")
    return logger


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    with pytest.raises(type(error)) as caught:
        raise error from cause
    return caught.value


def test_line_begins_with_event_level_logger_and_time(
    lines: Lines, log: structlog.stdlib.BoundLogger
) -> None:
    log.warning("lease_recalled", account_id="a1", count=3)

    assert ["event", "level", "logger", "time", "account_id", "count"] == list(lines.last)
    assert ("lease_recalled", "warning", "room") == tuple(lines.last.values())[:3]
    assert lines.last["time"].endswith("Z")


def test_line_below_the_level_is_not_written(
    lines: Lines, log: structlog.stdlib.BoundLogger
) -> None:
    log.debug("detail")
    logging.getLogger("nats").info("detail")
    logging.getLogger("room").debug("detail")

    assert "" == lines.text


@pytest.mark.parametrize("library", LIBRARIES)
def test_library_logs_in_the_same_form_without_the_secret(lines: Lines, library: str) -> None:
    logging.getLogger(library).error("failed with %s at %d", CANARY, 7)

    assert f"failed with {MASK} at 7" == lines.last["event"]
    assert ("error", library) == (lines.last["level"], lines.last["logger"])


@pytest.mark.parametrize("name", sorted(HIDDEN_NAMES))
def test_field_with_a_secret_name_is_masked_at_every_depth(
    lines: Lines, log: structlog.stdlib.BoundLogger, name: str
) -> None:
    log.info("x", **{name: PROMPT}, nested={name.upper(): PROMPT, "deep": [{name: [PROMPT]}]})

    assert PROMPT not in lines.text
    assert {name.upper(): MASK, "deep": [{name: MASK}]} == lines.last["nested"]


@pytest.mark.parametrize("name", ["X-Api-Key", "access_token", "stripe_secret", "system_prompt"])
def test_name_that_ends_like_a_secret_is_hidden(name: str) -> None:
    assert is_hidden(name)


@pytest.mark.parametrize("name", ["key_id", "tokens_in", "token_count", "content_type", "keys"])
def test_name_of_a_plain_fact_is_shown(name: str) -> None:
    assert not is_hidden(name)


def test_registered_secret_is_masked_wherever_it_stands(
    lines: Lines, log: structlog.stdlib.BoundLogger
) -> None:
    quoted = "canary-4711%2F%C3%B6%2Bsecret"

    log.info(
        "at %s",
        CANARY,
        url=f"postgresql://u:{quoted}@h/db",
        nested={"list": [("a", f"x{CANARY}y")], CANARY: 1},
        extra={CANARY},
    )

    assert f"at {MASK}" == lines.last["event"]
    assert quoted not in lines.text
    assert "canary" not in lines.text


def test_secret_that_holds_another_leaves_no_rest() -> None:
    redactor = Redactor()
    redactor.register("inner-value")
    redactor.register("outer-inner-value-outer")

    assert f"<{MASK}>" == redactor.mask("<outer-inner-value-outer>")


def test_very_short_value_is_not_taken_for_a_secret() -> None:
    redactor = Redactor()
    redactor.register("")
    redactor.register("abc")

    assert "abcdef" == redactor.mask("abcdef")


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer abc.def",
        "tried sk-tp-0123456789abcdefghij",
        "whsec_0123456789abcdef",
        "Basic dXNlcjpwYXNz",
    ],
)
def test_credential_that_nobody_registered_is_masked_by_its_form(text: str) -> None:
    masked = Redactor().mask(text)

    assert MASK in masked
    assert text.rsplit(maxsplit=1)[-1] not in masked


def test_prompt_in_an_exception_never_comes_out(
    lines: Lines, log: structlog.stdlib.BoundLogger
) -> None:
    error = raised(RuntimeError(CANARY), raised(ValueError(f"cannot parse {PROMPT}")))
    group = ExceptionGroup(PROMPT, [raised(KeyError(PROMPT)), raised(OSError(2, CANARY, PROMPT))])

    log.error("a", exc_info=error)
    log.error("b", exc_info=raised(group))
    logging.getLogger("aiohttp.server").error("Error handling request", exc_info=error)
    try:
        raise error
    except RuntimeError:
        log.exception("c", error=error)

    assert PROMPT not in lines.text
    assert "canary" not in lines.text
    types = [[each["type"] for each in line["errors"]] for line in lines.all]
    assert [["RuntimeError", "ValueError"]] * 3 == [types[0], *types[2:]]
    assert ["ExceptionGroup", "KeyError", "FileNotFoundError"] == types[1]


def test_own_error_says_its_reason_and_where_it_was_raised(
    lines: Lines, log: structlog.stdlib.BoundLogger
) -> None:
    log.error("x", exc_info=raised(TurnpikeError(Reason.TIMEOUT, "Nobody answered.")))

    (error,) = lines.last["errors"]
    assert ("TIMEOUT", "Nobody answered.") == (error["reason"], error["says"])
    assert error["trace"][-1].endswith(" raised")


def test_unknown_object_says_only_what_it_is(
    lines: Lines, log: structlog.stdlib.BoundLogger
) -> None:
    log.info("x", event_of=UsageEvent(finish_reason=PROMPT), raw=PROMPT.encode(), loose={1: [{}]})

    assert ["<UsageEvent>", "<bytes>", {"1": [{}]}] == list(lines.last.values())[4:]


async def test_task_that_nobody_awaited_does_not_tell_its_exception(lines: Lines) -> None:
    loop = asyncio.get_running_loop()

    loop.default_exception_handler(
        {"message": "Task exception was never retrieved", "future": PROMPT}
    )

    assert "Task exception was never retrieved" == lines.last["event"]
    assert PROMPT not in lines.text


def test_newlines_and_terminal_codes_stay_inside_one_plain_line(
    lines: Lines, log: structlog.stdlib.BoundLogger
) -> None:
    evil = 'a\r\n{"event":"forged"}\x1b[31m\x9b2J\u2028\u202e\U000e0001"\\'

    log.info(evil, model=evil, number=2**70, **{"k\n": 1})
    logging.getLogger("aiohttp.server").warning(evil)

    assert 2 == lines.text.count("\n")
    assert lines.text.replace("\n", "").isascii()
    assert lines.text.replace("\n", "").isprintable()
    assert (evil, evil, 2**70) == (lines.all[0]["event"], lines.all[0]["model"], 2**70)


def test_very_long_text_is_cut(lines: Lines, log: structlog.stdlib.BoundLogger) -> None:
    log.info("x", detail="a" * 100_000, many=list(range(10_000)))

    assert TEXT_LENGTH_MAX + 3 == len(lines.last["detail"])
    assert 200 == len(lines.last["many"])


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.sampled_from(["prompt", "model", "Authorization", "x"])
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner)
    )


@given(nested(st.sampled_from([CANARY, f"x{CANARY}", 1, None, 0.5])))
def test_secret_survives_in_no_shape_of_event(value: object) -> None:
    redactor = Redactor()
    redactor.register(CANARY)

    cleaned = redactor(None, "info", {"event": "x", "value": value})

    assert CANARY not in repr(cleaned)


def test_redactor_is_optional(lines: Lines) -> None:
    stream = io.StringIO()
    configure: Callable[..., None] = configure_logs

    configure(level="warning", stream=stream)
    structlog.get_logger("other").warning("x", password="p")

    assert MASK == json.loads(stream.getvalue())["password"]
