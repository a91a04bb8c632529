"""Waiting until the books are at rest."""

import time

from app.admin_client import AdminError
from tests.faults.site import Json, Site, until


async def released(site: Site, *, wait_s: float) -> tuple[float, Json]:
    """Wait until no hold and no lease is left; return after how long, and the verification."""
    began_s = time.monotonic()
    found: Json = {}

    def is_free() -> bool:
        try:
            found.update(site.verify())
        except AdminError:
            # Who was killed last is reached again when its link has reconnected.
            return False
        open_count = int(found["open_lease_count"]) + int(found["open_hold_count"])
        return open_count == 0 and int(found["held_nusd"]) == 0

    await until(is_free, "every lease and hold released", wait_s=wait_s)
    return time.monotonic() - began_s, found
