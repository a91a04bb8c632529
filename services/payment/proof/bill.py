"""An account's receipts as a file, and its proof without a database or a network. Pure.

The file is JSON lines: a head, then receipts in order with each signed root before the first
receipt that it covers, then the sums. The format is documented in `docs/receipts.md`.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from services.payment.ledger import GENESIS_HASH
from services.payment.proof.merkle import root_by
from services.payment.proof.receipts import CHARGE, REFUND, body_of, fields_of, flaws, receipt_hash
from services.payment.proof.roots import BATCH, Root, root_from
from services.payment.proof.signing import Keyring

FORM: Final = "1"
LINE_CHARS_MAX: Final = 64 * 1024
FINDINGS_MAX: Final = 1_000
PATH_MAX: Final = 64
_SUMS: Final = ("charge_nusd", "charged_nusd", "writeoff_nusd", "refunded_nusd")


def receipt_line(
    row: Mapping[str, Any], previous: bytes, proof: tuple[int, int, Sequence[bytes]] | None
) -> str:
    """Return a stored receipt as a line; `proof` is a root's number, the leaf and its path."""
    way = None
    if proof is not None:
        number, index, path = proof
        way = {"root": number, "index": index, "path": [step.hex() for step in path]}
    return _line(
        {
            "type": "receipt",
            "receipt": fields_of(row["body"]),
            "previous": previous.hex(),
            "hash": row["hash"].hex(),
            "proof": way,
        }
    )


def root_line(root: Root) -> str:
    """Return a root as a line."""
    return _line({"type": "root", **root.shown()})


def head_line(account_id: str) -> str:
    """Return the first line of an account's file."""
    return _line({"type": "receipts", "form": FORM, "account_id": account_id})


@dataclass(slots=True)
class Sums:
    """What the receipts of a file come to; amounts are nano-USD."""

    receipt_count: int = 0
    last_hash: str = GENESIS_HASH.hex()
    amounts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_SUMS, 0))

    def add(self, receipt: Mapping[str, Any], digest: str) -> None:
        """Add a receipt's fields."""
        self.receipt_count += 1
        self.last_hash = digest
        for name in _SUMS:
            self.amounts[name] += int(receipt[name])

    def line(self) -> str:
        """Return the last line of a file."""
        return _line({"type": "end", **self.members()})

    def members(self) -> dict[str, str]:
        """Return the sums as text."""
        amounts = {name: str(amount) for name, amount in self.amounts.items()}
        return {"receipt_count": str(self.receipt_count), **amounts, "last_hash": self.last_hash}


class BillCheck:
    """Takes a file line by line; what is wrong is in `findings`, each with the line's number.

    `unsigned_count` are the receipts behind the last one that a root covers.
    """

    def __init__(self, keys: Keyring) -> None:
        self._keys = keys
        self._roots: dict[int, Root] = {}
        self._charged: dict[str, int] = {}
        self._line = 0
        self._is_ended = False
        self.account_id = ""
        self.sums = Sums()
        self.unsigned_count = 0
        self.findings: list[str] = []

    @property
    def root_count(self) -> int:
        """Roots whose signature was good."""
        return len(self._roots)

    def check(self, lines: Iterable[str]) -> None:
        """Check a whole file."""
        for line in lines:
            self._line += 1
            try:
                self._take(_read(line))
            except (ValueError, RecursionError) as error:
                self._find(str(error) or "The line cannot be read.")
        if not self._is_ended:
            self._find("The file is cut off: its last line, with the sums, is missing.")

    def _take(self, members: dict[str, Any]) -> None:
        kind = members.pop("type", None)
        if self._is_ended:
            raise ValueError("There is more behind the sums.")
        if (kind == "receipts") != (self._line == 1):
            raise ValueError("The first line, and no other, names the account.")
        takers: Mapping[object, Callable[[dict[str, Any]], None]] = {
            "receipts": self._head,
            "root": self._root,
            "receipt": self._receipt,
            "end": self._end,
        }
        if kind not in takers:
            raise ValueError("The line is of a type that is unknown.")
        takers[kind](members)

    def _head(self, members: dict[str, Any]) -> None:
        if members.get("form") != FORM or not isinstance(members.get("account_id"), str):
            raise ValueError(f"The file is not of form {FORM}.")
        self.account_id = members["account_id"]

    def _root(self, members: dict[str, Any]) -> None:
        root = root_from(members)
        if flaw := root.flaw(self._keys):
            raise ValueError(f"Root {root.number}: {flaw}")
        if root.fields["kind"] != BATCH:
            raise ValueError(f"Root {root.number} covers no receipts.")
        self._roots[root.number] = root

    def _receipt(self, members: dict[str, Any]) -> None:
        fields, digest = members.get("receipt"), members.get("hash")
        if not isinstance(fields, dict) or not isinstance(digest, str):
            raise ValueError("A receipt has the members receipt and hash.")  # noqa: TRY004
        body = body_of(fields)
        name = f"Receipt {fields['receipt_seq']} of request {fields['request_id']}"
        for flaw in self._receipt_flaws(fields, body, members):
            self._find(f"{name}: {flaw}")
        # What follows is judged by what this line says, so that one change is one finding.
        self.sums.receipt_count += 1
        self.sums.last_hash = digest
        self._add(fields)

    def _receipt_flaws(
        self, fields: Mapping[str, str], body: bytes, members: Mapping[str, Any]
    ) -> Iterator[str]:
        yield from flaws(fields)
        if fields["account_id"] != self.account_id:
            yield f"It is of the account {fields['account_id']}."
        if fields["receipt_seq"] != str(self.sums.receipt_count + 1):
            yield f"Expected receipt {self.sums.receipt_count + 1} here."
        if members.get("previous") != self.sums.last_hash:
            yield "It does not follow the one before."
        hashed = receipt_hash(bytes.fromhex(self.sums.last_hash), body)
        if hashed.hex() != members["hash"]:
            yield "The hash does not follow from the receipt and the one before."
        yield from self._refund_flaws(fields)
        yield from self._proof_flaws(hashed, members.get("proof"))

    def _refund_flaws(self, fields: Mapping[str, str]) -> Iterator[str]:
        if fields["kind"] != REFUND or not fields["refunded_nusd"].isdigit():
            return
        paid, given = self._charged.get(fields["request_id"], 0), int(fields["refunded_nusd"])
        if given > paid:
            yield f"{given} nUSD were given back of {paid} that were charged."

    def _proof_flaws(self, hashed: bytes, proof: object) -> Iterator[str]:
        if proof is None:
            self.unsigned_count += 1
            return
        if not isinstance(proof, dict):
            yield "Its proof is no object."
            return
        number, index, path = (proof.get(name) for name in ("root", "index", "path"))
        root = self._roots.get(number) if isinstance(number, int) else None
        if root is None or not isinstance(index, int) or not isinstance(path, list):
            yield "Its proof leads to no root that is signed and stands before it."
            return
        try:
            steps = [bytes.fromhex(step) for step in path[:PATH_MAX]]
        except (TypeError, ValueError):
            yield "Its proof is no list of hashes."
            return
        found = root_by(hashed, index, int(root.fields["leaf_count"]), steps)
        if found is None or found.hex() != root.fields["root"]:
            yield f"Its proof does not lead to root {number}."
            return
        # Its hash covers all receipts before it.
        self.unsigned_count = 0

    def _add(self, fields: Mapping[str, str]) -> None:
        amounts = {name: fields[name] for name in _SUMS if fields[name].isdigit()}
        for name, amount in amounts.items():
            self.sums.amounts[name] += int(amount)
        if fields["kind"] == CHARGE and "charged_nusd" in amounts:
            self._charged[fields["request_id"]] = int(amounts["charged_nusd"])

    def _end(self, members: dict[str, Any]) -> None:
        self._is_ended = True
        if self.sums.receipt_count and not self._roots:
            self._find("None of the receipts is signed yet; nothing is proven.")
        for name, expected in self.sums.members().items():
            if members.get(name) != expected:
                self._find(f"{name} should be {expected}; the file says {members.get(name)}.")

    def _find(self, what: str) -> None:
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(f"line {self._line}: {what}")


def _read(line: str) -> dict[str, Any]:
    if len(line) > LINE_CHARS_MAX:
        raise ValueError(f"The line is longer than {LINE_CHARS_MAX} characters.")
    members = json.loads(line)
    if not isinstance(members, dict):
        raise ValueError("The line is no JSON object.")  # noqa: TRY004 - one kind of finding
    return members


def _line(members: Mapping[str, object]) -> str:
    return json.dumps(members, separators=(",", ":"))
