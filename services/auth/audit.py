"""The audit chain: what changed, when, and a hash that ties each entry to the one before.

Pure. An entry that is changed, taken out or slipped in breaks every hash after it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

GENESIS: Final = bytes(32)

Facts = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Entry:
    """One change. `before` and `after` are JSON texts without secrets, empty when there is none."""

    seq: int
    action: str
    subject_id: str
    unix_ms: int
    before: str
    after: str
    previous_hash: bytes

    @property
    def entry_hash(self) -> bytes:
        """SHA-256 over the fields in this order, as one JSON list."""
        fields = [self.seq, self.action, self.subject_id, self.unix_ms, self.before, self.after]
        text = json.dumps([*fields, self.previous_hash.hex()], separators=(",", ":"))
        return hashlib.sha256(text.encode()).digest()


def facts_json(facts: Facts | None) -> str:
    """Return facts as the text that is kept and hashed."""
    if facts is None:
        return ""
    return json.dumps(facts, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def first_break(entries: Iterable[Entry]) -> int | None:
    """Return the `seq` where the chain breaks, None when it holds; entries come in order."""
    expected_seq, expected_hash = 1, GENESIS
    for entry in entries:
        if (entry.seq, entry.previous_hash) != (expected_seq, expected_hash):
            return expected_seq
        expected_seq, expected_hash = entry.seq + 1, entry.entry_hash
    return None
