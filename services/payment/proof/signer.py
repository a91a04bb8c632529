"""The background signer: what is settled becomes signed roots, in the database and in the file.

A root is stored first and then appended to the file; what a crash, or another replica, has stored
and the file lacks is appended at the next look. Signing reads behind settlement and holds nothing
of it up: it writes one row for each root.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final

import structlog

from kit.clock import Clock
from kit.errors import TurnpikeError
from services.payment.proof import roots
from services.payment.proof.merkle import Tree
from services.payment.proof.receipts import mark
from services.payment.proof.roots import (
    BATCH,
    DAY,
    NO_DETAILS,
    Detail,
    Root,
    day_of,
    details_hash,
    line_of,
    read_line,
)
from services.payment.proof.roots_file import RootsFile
from services.payment.proof.settings import ProofSettings
from services.payment.proof.signing import Signer
from services.payment.proof.store import Made, Posted, ProofStore, Signed

_COPIES_MAX: Final = 64
_log = structlog.get_logger("services.payment")


@dataclass(slots=True)
class _Stretch:
    """Transactions that a batch root is to cover, and the tree over their receipts."""

    day: int
    details: list[Detail] = field(default_factory=list)
    tree: Tree = field(default_factory=Tree)


class RootSigner:
    """Signs for as long as it runs; `root_count` and `failure_count` are those since the start."""

    def __init__(
        self,
        store: ProofStore,
        signer: Signer,
        *,
        file: RootsFile,
        clock: Clock,
        settings: ProofSettings,
    ) -> None:
        self._store = store
        self._signer = signer
        self._file = file
        self._clock = clock
        self._settings = settings
        self._kept: int | None = None
        self.root_count = 0
        self.failure_count = 0

    async def run(self) -> None:
        """Sign what is settled, again and again."""
        while True:
            try:
                while await self.sign_next():
                    pass
            except (TurnpikeError, OSError, ValueError) as error:
                self.failure_count += 1
                _log.warning("signing_waits", why=str(error))
            await asyncio.sleep(self._settings.root_s)

    async def sign_next(self) -> bool:
        """Sign at most one root and bring the file up to date; return whether more may wait.

        Raises:
            ValueError: The file cannot be read, or tells of roots that the database has lost.
            TurnpikeError: LEDGER_UNAVAILABLE.
        """
        await self._copy()
        signed = await self._store.signed()
        if self._kept is not None and self._kept > signed.number:
            raise ValueError(
                f"The file has root {self._kept}; the database has {signed.number} of them."
            )
        stretch = await self._stretch(signed)
        root: Root | None = None
        details: list[Detail] = []
        if self._is_day_over(signed, stretch):
            root = await self._day_root(signed)
        elif stretch is not None:
            root, details = self._batch_root(signed, stretch), stretch.details
        if root is None:
            return False
        if await self._store.add(root, int(root.fields["day"])):
            self.root_count += 1
            # Behind one that another replica has signed since, it is copied at the next look.
            if self._kept == root.number - 1:
                await self._append(root, details)
        return True

    def _is_day_over(self, signed: Signed, stretch: _Stretch | None) -> bool:
        """Whether the day of the last batch root is to be signed before anything else is."""
        if signed.day <= signed.closed_day:
            return False
        if stretch is not None:
            return stretch.day > signed.day
        return day_of(self._clock.unix_ms()) > signed.day

    async def _stretch(self, signed: Signed) -> _Stretch | None:
        """Return the next transactions that one root can cover; None when there are none."""
        rows = await self._store.transactions(
            after=signed.seq, count_max=self._settings.root_transactions_max
        )
        if not rows:
            return None
        # A clock that was set back moves nothing into a day that is signed.
        first_day = max(signed.day, signed.closed_day + 1)
        found = _Stretch(max(first_day, day_of(rows[0].unix_ms)))
        same = takewhile(lambda row: max(first_day, day_of(row.unix_ms)) == found.day, rows)
        counts = await self._store.receipt_counts(rows[0].seq, rows[-1].seq)
        for page in _pages([*same], counts, self._settings):
            await self._cover(found, page)
        return found

    async def _cover(self, stretch: _Stretch, page: Sequence[Posted]) -> None:
        """Add transactions with their receipts."""
        made: defaultdict[int, list[Made]] = defaultdict(list)
        for receipt in await self._store.receipts(page[0].seq, page[-1].seq):
            made[receipt.txn_seq].append(receipt)
        for row in page:
            stretch.details.append(detail_of(row.seq, row.hash, made[row.seq]))
            for receipt in made[row.seq]:
                stretch.tree.add(receipt.hash)

    def _batch_root(self, signed: Signed, stretch: _Stretch) -> Root:
        fields = {
            "kind": BATCH,
            "first_seq": str(stretch.details[0].seq),
            "last_seq": str(stretch.details[-1].seq),
            "details": details_hash(stretch.details),
            "ledger_hash_before": signed.ledger_hash.hex(),
            "ledger_hash": stretch.details[-1].hash.hex(),
        }
        return self._signed(signed, stretch.day, stretch.tree, fields)

    async def _day_root(self, signed: Signed) -> Root:
        """Return the root over a day's batch roots."""
        tree, first, last, after = Tree(), 0, 0, 0
        while page := await self._store.batches_of(
            signed.day, after=after, count_max=self._settings.read_max
        ):
            for batch in page:
                tree.add(batch["hash"])
                first, last, after = first or batch["first_seq"], batch["last_seq"], batch["number"]
        fields = {
            "kind": DAY,
            "first_seq": str(first),
            "last_seq": str(last),
            "details": NO_DETAILS,
            "ledger_hash_before": "",
            "ledger_hash": signed.ledger_hash.hex(),
        }
        return self._signed(signed, signed.day, tree, fields)

    def _signed(self, signed: Signed, day: int, tree: Tree, fields: Mapping[str, str]) -> Root:
        common = {
            "number": str(signed.number + 1),
            "previous": signed.hash.hex(),
            "day": str(day),
            "leaf_count": str(tree.size),
            "root": tree.root().hex(),
            "unix_ms": str(self._clock.unix_ms()),
        }
        return roots.sign({**common, **fields}, self._signer)

    async def _copy(self) -> None:
        """Append to the file what the database has and the file lacks."""
        if self._kept is None:
            self._kept = number_of(await asyncio.to_thread(self._file.heal))
        while found := await self._store.roots(after=self._kept, count_max=_COPIES_MAX):
            for root in found:
                details = await self._details(root)
                if details_hash(details) != root.fields["details"]:
                    # The line is kept all the same: verification says what does not fit it.
                    _log.error("root_does_not_fit", number=root.number)
                await self._append(root, details)

    async def _details(self, root: Root) -> list[Detail]:
        if root.fields["kind"] == DAY:
            return []
        first, last = root.span
        stretch = _Stretch(0)
        rows = await self._store.transactions(after=first - 1, count_max=last - first + 1)
        counts = await self._store.receipt_counts(first, last)
        for page in _pages([row for row in rows if row.seq <= last], counts, _WHOLE):
            await self._cover(stretch, page)
        return stretch.details

    async def _append(self, root: Root, details: Sequence[Detail]) -> None:
        # Unknown until it is done: an append that fails half way is healed at the next look.
        self._kept = None
        await asyncio.to_thread(self._file.append, line_of(root, details))
        self._kept = root.number


def detail_of(seq: int, digest: bytes, made: Sequence[Made]) -> Detail:
    """Return what a line tells of a transaction; `made` are its receipts, in order."""
    if not made:
        return Detail(seq, digest)
    marks = tuple(mark(receipt.body).hex() for receipt in made)
    return Detail(seq, digest, made[0].account_id, made[0].receipt_seq, marks)


def number_of(line: str) -> int:
    """Return the number of the root that a line is of; 0 when there is no line.

    Raises:
        ValueError: It is no line of a root.
    """
    return read_line(line)[0].number if line else 0


def _pages(
    rows: Sequence[Posted], counts: Mapping[int, int], settings: ProofSettings
) -> Iterator[Sequence[Posted]]:
    """Yield transactions in pages of about as many rows as are read at once, up to the limit."""
    page: list[Posted] = []
    in_page = total = 0
    for row in rows:
        if total >= settings.root_receipts_max:
            break
        page.append(row)
        count = counts.get(row.seq, 0)
        in_page, total = in_page + count, total + count
        if in_page >= settings.read_max:
            yield page
            page, in_page = [], 0
    if page:
        yield page


_WHOLE: Final = ProofSettings(root_receipts_max=8_192)
