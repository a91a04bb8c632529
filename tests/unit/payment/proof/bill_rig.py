"""Events that cost what their tokens cost, and a signer and a checker over a rig's ledger."""

from pathlib import Path
from typing import Any

from services.payment.proof.root_checks import Finding, Report, RootChecker, Trail
from services.payment.proof.roots_file import RootsFile
from services.payment.proof.settings import ProofSettings
from services.payment.proof.signer import RootSigner
from services.payment.proof.signing import Keyring, Signer
from services.payment.proof.store import ProofStore
from services.router.pricing import PriceRow, charge_nusd
from services.router.usage_events import price_message
from tests.unit.payment.rig import Rig, outcome, refunded
from turnpike.events.v1.events_pb2 import UsageEvent
from turnpike.type.v1 import usage_pb2

SEED = bytes(range(32))
SIGNER = Signer(SEED)
KEYS = Keyring([bytes.fromhex(SIGNER.public_key)])
PRICE = PriceRow("2026-01", 250_000, 2_000_000, 3)


def priced(
    request_id: str,
    lease_id: str,
    *,
    prompt: int = 7,
    completion: int = 3,
    account_id: str = "a",
    is_refunded: bool = False,
) -> UsageEvent:
    """Return a finished request as the router writes it, held at exactly what it costs."""
    charge = charge_nusd(PRICE, prompt_tokens=prompt, completion_tokens=completion)
    make = refunded if is_refunded else outcome
    event = make(request_id, lease_id, hold_nusd=charge, charge_nusd=charge, account_id=account_id)
    event.model_id, event.deployment, event.provider = "tiny-chat", "triton-a", "triton"
    event.price.CopyFrom(price_message(PRICE))
    event.usage.CopyFrom(
        usage_pb2.TokenUsage(
            prompt_token_count=prompt,
            completion_token_count=completion,
            source=usage_pb2.USAGE_SOURCE_UPSTREAM,
        )
    )
    event.finish_reason, event.start_unix_ms, event.end_unix_ms = "stop", 1_000, 2_000
    return event


def root_signer(rig: Rig, path: Path, **limits: Any) -> RootSigner:
    """Return a signer of a rig's ledger."""
    return RootSigner(
        ProofStore(rig.transactions),
        SIGNER,
        file=RootsFile(path),
        clock=rig.clock,
        settings=ProofSettings(roots_path=str(path), **limits),
    )


async def signed(rig: Rig, path: Path, **limits: Any) -> list[str]:
    """Sign everything that waits and return the lines of the file."""
    signer = root_signer(rig, path, **limits)
    while await signer.sign_next():
        pass
    return path.read_text().splitlines()


async def checked(rig: Rig, lines: list[str]) -> Report:
    """Compare lines with a rig's ledger."""
    report = Report(Trail(), findings_max=1_000)
    checker = RootChecker(ProofStore(rig.transactions), KEYS, page_max=3)
    for line in lines:
        await checker.check(line, report)
    return report


async def named(rig: Rig, lines: list[str]) -> set[tuple[str, str]]:
    """Return kind and subject of everything that is not as it was signed."""
    found: list[Finding] = (await checked(rig, lines)).findings
    return {(finding.check, finding.subject) for finding in found}
