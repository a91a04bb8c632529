"""Runs localstripe on a port of 127.0.0.1: a process of its own, for its licence is not ours.

`python localstripe_process.py PORT`. It is older than the API that is asked for here, and refuses
fields that it does not know: the one that says how a card may be confirmed is left out.
"""

import sys
from typing import Any

from aiohttp import web
from localstripe import resources, server

_UNKNOWN = "automatic_payment_methods"
_read = server.get_post_data


async def _known_fields(request: web.Request, remove_auth: bool = True) -> Any:
    found = await _read(request, remove_auth)
    if isinstance(found, dict):
        found.pop(_UNKNOWN, None)
    return found


if __name__ == "__main__":
    server.get_post_data = _known_fields
    resources.Store.dump_to_disk = lambda _self: None  # it would write beside every other run's
    web.run_app(server.app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
