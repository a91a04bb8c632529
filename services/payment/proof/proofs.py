"""Receipts with what proves them: their place in the tree of a signed root, and the way up."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.payment.proof.bill import receipt_line, root_line
from services.payment.proof.merkle import Proofs
from services.payment.proof.receipts import Head
from services.payment.proof.roots import Root
from services.payment.proof.store import ProofStore
from services.payment.store_tables import Row


@dataclass(slots=True)
class Proven:
    """Receipts and the roots that their proofs lead to, each as its JSON."""

    receipts: list[str] = field(default_factory=list)
    roots: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Tree:
    root: Root
    places: dict[tuple[str, int], int]
    proofs: Proofs

    def covers(self, seq: int) -> bool:
        first, last = self.root.span
        return first <= seq <= last


class Prover:
    """Makes proofs from what is stored; it holds the tree of one root at a time."""

    def __init__(self, store: ProofStore) -> None:
        self._store = store

    async def prove(self, rows: Sequence[Row]) -> Proven:
        """Return rows of one account's receipts, in order, with their proofs.

        One that no root covers yet has none.
        """
        found = Proven()
        tree: _Tree | None = None
        head = Head()
        for row in rows:
            place = row["receipt_seq"] - 1
            if head.receipt_seq != place:
                head = await self._store.head(row["account_id"], place)
            seq = row["txn_seq"]
            if tree is None or not tree.covers(seq):
                tree = await self._tree(seq)
                if tree is not None:
                    found.roots.append(root_line(tree.root))
            found.receipts.append(receipt_line(row, head.hash, _proof(tree, row)))
            head = Head(row["receipt_seq"], row["hash"])
        return found

    async def _tree(self, seq: int) -> _Tree | None:
        root = await self._store.covering(seq)
        if root is None:
            return None
        leaves = await self._store.leaves(*root.span)
        places = {(row["account_id"], row["receipt_seq"]): at for at, row in enumerate(leaves)}
        return _Tree(root, places, Proofs(row["hash"] for row in leaves))


def _proof(tree: _Tree | None, row: Row) -> tuple[int, int, list[bytes]] | None:
    if tree is None:
        return None
    index = tree.places[row["account_id"], row["receipt_seq"]]
    return tree.root.number, index, tree.proofs.path(index)
