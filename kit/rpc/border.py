"""What a servicer raises, as the callers of its room are told it."""

import asyncio
from typing import Final

import structlog

from kit.errors import TurnpikeError
from kit.rpc.status import internal_error

_log: Final = structlog.get_logger("kit.rpc")


def outward(error: BaseException, method: str) -> TurnpikeError:
    """Return what the caller sees: a `TurnpikeError` as it is; a bug is logged and not shown."""
    if isinstance(error, TurnpikeError):
        return error
    _log.error("servicer_failed", method=method, exc_info=error)
    return internal_error()


def is_cancelled() -> bool:
    """Return whether somebody cancelled the current task.

    When nobody did, a `CancelledError` comes from something else that the servicer waited for: a
    bug, and a caller that was told nothing would wait for ever.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
