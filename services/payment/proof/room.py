"""Opens what proves the bill: the signer, where there is a key, and its service."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry

from kit.clock import Clock
from kit.metrics import Reading
from kit.tasks import background
from services.payment.proof.roots_file import RootsFile
from services.payment.proof.servicer import ReceiptServicer
from services.payment.proof.settings import ProofSettings
from services.payment.proof.signer import RootSigner
from services.payment.proof.signing import Signer, seed_of
from services.payment.proof.store import ProofStore
from services.payment.store_engine import Transactions


@asynccontextmanager
async def open_proof(
    settings: ProofSettings,
    *,
    transactions: Transactions,
    clock: Clock,
    registry: CollectorRegistry,
) -> AsyncIterator[ReceiptServicer]:
    """Open receipts, roots and quotes; while it is open what is settled is signed.

    Raises:
        ValueError: The signing key is no key.
    """
    store, file = ProofStore(transactions), RootsFile(Path(settings.roots_path))
    seed = settings.signing_key.get_secret_value()
    signer = Signer(seed_of(seed)) if seed else None
    async with AsyncExitStack() as stack:
        if signer is not None:
            roots = RootSigner(store, signer, file=file, clock=clock, settings=settings)
            _watch(registry, roots)
            await stack.enter_async_context(background(roots.run, name="payment_signer"))
        yield ReceiptServicer(store, signer=signer, file=file, clock=clock, settings=settings)


def _watch(registry: CollectorRegistry, roots: RootSigner) -> None:
    Reading(
        registry,
        "turnpike_payment_roots_signed",
        "Roots that this process signed.",
        lambda: {(): roots.root_count},
        is_counter=True,
    )
    Reading(
        registry,
        "turnpike_payment_signing_failures",
        "Times that signing had to wait: the ledger or the file could not be reached.",
        lambda: {(): roots.failure_count},
        is_counter=True,
    )
