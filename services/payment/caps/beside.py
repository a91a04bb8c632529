"""What settlement asks of spend caps; pure."""

from typing import TYPE_CHECKING, Protocol

from services.payment.ledger import Split

if TYPE_CHECKING:
    from services.payment.batch import Claim


class Beside(Protocol):
    """What is charged and refunded beside leases, as spend caps see it; nano-USD."""

    def take(self, claim: "Claim", amount_nusd: int, *, is_of_lease: bool) -> int:
        """Return how much of a late charge there is room for, and count it."""

    def give_back(self, claim: "Claim", amount_nusd: int) -> None:
        """Take a refund off what the claim's lease used."""


class Uncapped:
    """Room for everything."""

    def take(self, claim: "Claim", amount_nusd: int, *, is_of_lease: bool) -> int:
        """Return the amount."""
        return amount_nusd

    def give_back(self, claim: "Claim", amount_nusd: int) -> None:
        """Do nothing."""


def within(beside: Beside, claim: "Claim", split: Split, *, is_of_lease: bool) -> Split:
    """Write off what the balance could pay and a cap does not let through."""
    asked = split.from_available_nusd
    taken = beside.take(claim, asked, is_of_lease=is_of_lease)
    return split._replace(
        from_available_nusd=taken, writeoff_nusd=split.writeoff_nusd + asked - taken
    )
