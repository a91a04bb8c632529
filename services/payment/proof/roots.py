"""Roots: signed statements about a stretch of the ledger, and the lines that are kept of them.

Pure. A batch root covers ledger transactions without a gap and, as a Merkle tree, their receipts;
a day root covers the batch roots of one UTC day. Each root covers the hash of the one before. The
line of a batch root also tells the hash of every transaction and a mark of every receipt, so that
one that was changed can be named; the signed `details` covers that.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from services.payment.proof import signing
from services.payment.proof.framing import framed, in_order
from services.payment.proof.receipts import MARK_BYTES
from services.payment.proof.signing import Keyring, Signer

FORM: Final = "1"
BATCH: Final = "batch"
DAY: Final = "day"
FIELDS: Final = (
    "form",
    "kind",
    "number",
    "previous",
    "day",
    "first_seq",
    "last_seq",
    "leaf_count",
    "root",
    "details",
    "ledger_hash_before",
    "ledger_hash",
    "unix_ms",
    "key_id",
)
"""The fields of a root, in the order in which they are hashed and signed; all are text."""

LINE_BYTES_MAX: Final = 1024 * 1024
NO_DETAILS: Final = hashlib.sha256(b"").hexdigest()
_DAY_MS: Final = 86_400_000
_MARK_CHARS: Final = 2 * MARK_BYTES


class Detail(NamedTuple):
    """What a line tells of one transaction; `first` is the account's position of its first receipt.

    `marks` has one for each receipt, in order, as hex. All but the hash is empty without receipts.
    """

    seq: int
    hash: bytes
    account_id: str = ""
    first: int = 0
    marks: tuple[str, ...] = ()

    def listed(self) -> list[str]:
        """Return it as text fields."""
        place = str(self.first) if self.marks else ""
        return [str(self.seq), self.hash.hex(), self.account_id, place, "".join(self.marks)]


@dataclass(frozen=True, slots=True)
class Root:
    """A signed root; `text` is its fields in order, framed."""

    fields: Mapping[str, str]
    signature: bytes

    @property
    def text(self) -> str:
        """What is hashed and signed."""
        return framed(in_order(FIELDS, self.fields))

    @property
    def hash(self) -> bytes:
        """What the next root covers of this one."""
        return hashlib.sha256(self.text.encode()).digest()

    @property
    def number(self) -> int:
        """Its place among all roots, from 1."""
        return int(self.fields["number"])

    @property
    def span(self) -> tuple[int, int]:
        """First and last ledger transaction that it covers."""
        return int(self.fields["first_seq"]), int(self.fields["last_seq"])

    def flaw(self, keys: Keyring) -> str:
        """Return why its signature proves nothing, as a sentence; empty when it does."""
        data = self.text.encode()
        return keys.flaw(self.fields["key_id"], signing.ROOT, data, self.signature)

    def shown(self) -> dict[str, str]:
        """Return it as the JSON members that every place shows it by."""
        ordered = {name: self.fields[name] for name in FIELDS}
        return {**ordered, "signature": self.signature.hex()}


def sign(fields: Mapping[str, str], signer: Signer) -> Root:
    """Return a root with its form, key and signature."""
    whole = {"form": FORM, **fields, "key_id": signer.key_id}
    return Root(whole, signer.sign(signing.ROOT, framed(in_order(FIELDS, whole)).encode()))


def root_from(shown: Mapping[str, Any]) -> Root:
    """Return a root from its JSON members.

    Raises:
        ValueError: They are not a root's.
    """
    members = dict(shown)
    signature = members.pop("signature", None)
    if not isinstance(signature, str):
        raise ValueError("signature is missing.")  # noqa: TRY004 - one kind of finding
    root = Root(dict(zip(FIELDS, in_order(FIELDS, members), strict=True)), bytes.fromhex(signature))
    for name in ("number", "first_seq", "last_seq", "leaf_count"):
        if not root.fields[name].isdigit():
            raise ValueError(f"{name} is not a whole number.")
    return root


def details_hash(details: Sequence[Detail]) -> str:
    """Return what a root covers of its line's transactions, lower-case hex."""
    text = framed([value for detail in details for value in detail.listed()])
    return hashlib.sha256(text.encode()).hexdigest()


def line_of(root: Root, details: Sequence[Detail]) -> str:
    """Return the line that is kept of a root, without its end."""
    members = {**root.shown(), "transactions": [detail.listed() for detail in details]}
    return json.dumps(members, separators=(",", ":"))


def read_line(line: str) -> tuple[Root, list[Detail]]:
    """Return what a line tells.

    Raises:
        ValueError: It is no line of a root.
    """
    if len(line) > LINE_BYTES_MAX:
        raise ValueError(f"The line is longer than {LINE_BYTES_MAX} bytes.")
    members = json.loads(line)
    if not isinstance(members, dict):
        raise ValueError("The line is no JSON object.")  # noqa: TRY004 - one kind of finding
    listed = members.pop("transactions", None)
    if not isinstance(listed, list):
        raise ValueError("transactions is missing.")  # noqa: TRY004 - one kind of finding
    return root_from(members), [_detail(each) for each in listed]


def day_of(unix_ms: int) -> int:
    """Return the UTC day of a moment, counted from 1970-01-01."""
    return unix_ms // _DAY_MS


def _detail(listed: object) -> Detail:
    if not isinstance(listed, list) or len(listed) != len(Detail._fields):
        raise ValueError("A transaction has five fields.")
    if not all(isinstance(value, str) for value in listed):
        raise ValueError("A transaction's fields are strings.")
    seq, digest, account_id, first, marks = listed
    if len(marks) % _MARK_CHARS:
        raise ValueError("A mark is cut off.")
    parts = tuple(marks[at : at + _MARK_CHARS] for at in range(0, len(marks), _MARK_CHARS))
    return Detail(int(seq), bytes.fromhex(digest), account_id, int(first or 0), parts)
