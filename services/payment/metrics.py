"""What Prometheus sees of payment."""

from prometheus_client import CollectorRegistry

from kit.metrics import Reading
from services.payment.settlement import Losses, Settlement
from services.payment.sweeper import Sweeper


def watch(registry: CollectorRegistry, *, settlement: Settlement, sweeper: Sweeper) -> None:
    """Show the room's parts for as long as the registry lives."""
    for field, name, says in (
        ("writeoff_nusd", "writeoff_nusd", "Used but charged to nobody, nano-USD."),
        ("late_count", "late_outcomes", "Outcomes that their lease could not cover in full."),
        ("unknown_lease_count", "unlent_outcomes", "Outcomes whose lease is not known."),
        ("dead_letter_count", "dead_letters", "What the usage stream held and cannot be applied."),
        ("refund_count", "refunds", "Charges that were given back."),
        ("refunded_nusd", "refunded_nusd", "Charges that were given back, nano-USD."),
        ("flagged_count", "flagged_keys", "Keys with many refunds, each once an hour."),
        ("earned_nusd", "earned_nusd", "Owed to suppliers and providers for usage, nano-USD."),
        ("promo_spent_nusd", "promo_spent_nusd", "Charges that gifts paid for, nano-USD."),
    ):
        _loss(registry, f"turnpike_payment_{name}", says, settlement.losses, field)
    for field, name, says in (
        ("open_lease_count", "open_leases", "Credit leases that are open."),
        ("writeoff_nusd", "lost_nusd", "All that the books hold as written off, nano-USD."),
        ("debtor_count", "debtor_accounts", "Accounts that owe something."),
        ("debt_nusd", "debt_nusd", "What accounts owe, nano-USD."),
    ):
        _level(
            registry, f"turnpike_payment_{name}", f"{says} As of the last sweep.", sweeper, field
        )


def _loss(registry: CollectorRegistry, name: str, says: str, losses: Losses, field: str) -> None:
    Reading(registry, name, says, lambda: {(): getattr(losses, field)}, is_counter=True)


def _level(registry: CollectorRegistry, name: str, says: str, sweeper: Sweeper, field: str) -> None:
    Reading(registry, name, says, lambda: {(): getattr(sweeper.last, field)})
