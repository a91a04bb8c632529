"""What one request does to the books of a machine: its hold, slices of it, and its end.

Each function is one transaction; ids make repeats harmless.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, select, update

from kit.errors import Reason, TurnpikeError
from services.payment import ledger
from services.payment.ledger import Draft, Kind
from services.payment.mpp import store_channels as rows
from services.payment.mpp import store_once
from services.payment.mpp.channels import Channel, required
from services.payment.mpp.postings import (
    NUSD_PER_BASE_UNIT,
    account_of,
    promised,
    subject_of,
)
from services.payment.mpp.problems import PaymentError, Slug
from services.payment.mpp.tables import noted_charges
from services.payment.store_books import Books, stored_balances
from services.payment.store_leases import (
    LeaseRules,
    LeaseTerms,
    Shortage,
    give_back,
    grant,
    left_nusd,
)
from services.payment.store_tables import answers, leases

_LEASE: Final = select(leases).where(leases.c.lease_id == bindparam("lease"))
_GROW: Final = (
    update(leases)
    .where(leases.c.lease_id == bindparam("lease"))
    .values(granted_nusd=bindparam("granted"))
)
_CONCLUDED: Final = select(answers.c.request_id).where(answers.c.request_id == bindparam("request"))
_NOTE: Final = select(noted_charges.c.charge_nusd).where(
    noted_charges.c.lease_id == bindparam("lease")
)


@dataclass(frozen=True, slots=True)
class Promise:
    """A voucher whose signature was verified; base units.

    `challenge_id` names the challenge that it is to buy something for; empty when it only promises.
    """

    channel_id: str
    cumulative: int
    signature: bytes
    delta_min: int
    challenge_id: str = ""


@dataclass(frozen=True, slots=True)
class Bid:
    """What a request wants to hold, and the challenge that it answers; nano-USD.

    `idempotency_key` is the payer's own name for the request; empty when it has none.
    """

    account_id: str
    hold_nusd: int
    challenge_id: str
    expires_unix_s: int
    request_id: str
    holder_id: str
    running_max: int
    idempotency_key: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an account stands: nano-USD, and base units of its channel (0 for a charge)."""

    available_nusd: int
    spent_nusd: int
    accepted: int = 0
    deposit: int = 0


@dataclass(frozen=True, slots=True)
class Lack:
    """What a hold lacks; `required` is the cumulative amount that covers it, base units."""

    missing_nusd: int
    required: int
    accepted: int
    deposit: int


def accept(connection: Connection, promise: Promise, *, now_ms: int) -> Channel:
    """Take a voucher: what it promises more can be spent; return the channel after it.

    One that is to buy something and is known is taken only under the challenge that brought it, so
    that nobody who saw a voucher can spend what it left.

    Raises:
        PaymentError: As `Channel.check_usable` and `Channel.raised`; verification-failed for a
            voucher that was used.
    """
    books = Books(connection)
    channel = rows.known(connection, promise.channel_id)
    channel.check_usable()
    increment = channel.raised(promise.cumulative, delta_min=promise.delta_min)
    if increment:
        rows.keep_voucher(
            connection,
            promise.channel_id,
            cumulative=promise.cumulative,
            signature=promise.signature,
        )
        rows.drop_beaten(
            connection,
            promise.channel_id,
            spent=rows.spent_nusd(connection, account_of(promise.channel_id)) // NUSD_PER_BASE_UNIT,
        )
        reference = f"{promise.channel_id}:{promise.cumulative}"
        postings = promised(promise.channel_id, increment)
        books.post(Draft(Kind.VOUCHER, reference, now_ms, postings))
        books.flush()
        rows.change(connection, promise.channel_id, accepted_challenge_id=promise.challenge_id)
    elif promise.challenge_id not in ("", channel.accepted_challenge_id):
        raise PaymentError(
            Slug.VERIFICATION_FAILED, "The voucher was used; a request needs a higher one."
        )
    rows.change(connection, promise.channel_id, used_unix_ms=now_ms)
    return rows.known(connection, promise.channel_id)


def hold(
    connection: Connection, bid: Bid, *, lease_id: str, rules: LeaseRules, now_ms: int
) -> tuple[str, int] | Lack:
    """Use up the bid's challenge and lease what it holds; or say what is missing.

    Raises:
        PaymentError: invalid-challenge.
        TurnpikeError: CONCURRENCY_EXCEEDED; ALREADY_EXISTS, a request of this key was paid.
    """
    Books(connection)
    terms = LeaseTerms(
        account_id=bid.account_id,
        key_id=bid.account_id,
        holder_id=bid.holder_id,
        need_nusd=bid.hold_nusd,
        want_nusd=0,
        request_id=bid.request_id,
    )
    user = rows.user_of(connection, bid.challenge_id)
    if user != bid.request_id:
        if user is not None:
            raise PaymentError(
                Slug.INVALID_CHALLENGE, "The challenge was used; every request needs its own."
            )
        if rows.running_count(connection, bid.account_id) >= bid.running_max:
            raise TurnpikeError(
                Reason.CONCURRENCY_EXCEEDED,
                f"{bid.running_max} requests of this channel run already.",
                retry_after_s="1",
            )
        if bid.idempotency_key:
            store_once.check(connection, bid.account_id, bid.idempotency_key)
    granted = grant(connection, terms, lease_id=lease_id, rules=rules, now_ms=now_ms)
    if isinstance(granted, Shortage):
        return _lack(connection, bid.account_id, bid.hold_nusd - granted.available_nusd)
    if user is None:
        rows.use_challenge(
            connection,
            bid.challenge_id,
            request_id=bid.request_id,
            expires_unix_s=bid.expires_unix_s,
        )
        if bid.idempotency_key:
            store_once.keep(
                connection,
                bid.account_id,
                bid.idempotency_key,
                lease_id=granted.lease_id,
                now_ms=now_ms,
            )
    return granted.lease_id, granted.granted_nusd


def extend(connection: Connection, *, lease_id: str, total_nusd: int, now_ms: int) -> int | Lack:
    """Make a lease hold so much in all; return what it holds, or what is missing.

    Raises:
        PaymentError: session/channel-finalized.
        TurnpikeError: NOT_FOUND, no such lease.
    """
    books = Books(connection)
    lease = connection.execute(_LEASE, {"lease": lease_id}).mappings().one_or_none()
    if lease is None:
        raise TurnpikeError(Reason.NOT_FOUND, "The lease is unknown.", param="lease_id")
    more_nusd = total_nusd - int(lease["granted_nusd"])
    if more_nusd <= 0:
        return int(lease["granted_nusd"])
    account_id = lease["account_id"]
    channel = rows.find(connection, subject_of(account_id))
    if channel is not None:
        channel.check_usable()
    if lease["state"] != "open" or _noted(connection, lease_id) is not None:
        raise PaymentError(Slug.CHANNEL_FINALIZED, "The request has ended.")
    name = ledger.available(account_id)
    missing_nusd = more_nusd - books.balances([name])[name]
    if missing_nusd > 0:
        return _lack(connection, account_id, missing_nusd)
    books.post(Draft(Kind.LEASE, lease_id, now_ms, ledger.grant(account_id, more_nusd)))
    books.flush()
    connection.execute(_GROW, {"lease": lease_id, "granted": total_nusd})
    return total_nusd


def conclude(
    connection: Connection, *, lease_id: str, run_id: str, charge_nusd: int, now_ms: int
) -> tuple[str, Standing]:
    """Note what a request costs and free the rest of its lease; return account and standing.

    The charge itself is posted by the usage event. A repeat changes nothing.

    Raises:
        TurnpikeError: NOT_FOUND, no such lease; INVALID_VALUE, a charge without a run.
    """
    Books(connection)
    lease = connection.execute(_LEASE, {"lease": lease_id}).mappings().one_or_none()
    if lease is None:
        raise TurnpikeError(Reason.NOT_FOUND, "The lease is unknown.", param="lease_id")
    if charge_nusd and not run_id:
        raise TurnpikeError(
            Reason.INVALID_VALUE, "run_id is required with a charge.", param="run_id"
        )
    if _noted(connection, lease_id) is None and not _is_concluded(connection, lease_id):
        # What the event takes may be gone from the lease already: then nothing of it is left.
        is_posted = lease["captured_nusd"] > 0
        kept_nusd = 0 if is_posted else min(charge_nusd, left_nusd(lease))
        note = {
            "lease_id": lease_id,
            "account_id": lease["account_id"],
            "event_id": f"{run_id}:outcome" if run_id else "",
            "charge_nusd": kept_nusd,
        }
        connection.execute(noted_charges.insert(), note)
        undrawn_nusd = max(0, left_nusd(lease) - kept_nusd)
        give_back(
            connection,
            lease_id=lease_id,
            undrawn_nusd=undrawn_nusd,
            request_id=_conclusion(lease_id),
            now_ms=now_ms,
        )
    return lease["account_id"], standing(connection, lease["account_id"])


def standing(connection: Connection, account_id: str) -> Standing:
    """Return where an account stands."""
    name = ledger.available(account_id)
    channel = rows.find(connection, subject_of(account_id))
    return Standing(
        available_nusd=stored_balances(connection, [name])[name],
        spent_nusd=rows.spent_nusd(connection, account_id),
        accepted=channel.accepted if channel else 0,
        deposit=channel.deposit if channel else 0,
    )


def account_of_lease(connection: Connection, lease_id: str) -> str:
    """Return the account of a lease; empty when there is none."""
    query = select(leases.c.account_id).where(leases.c.lease_id == lease_id)
    return str(connection.execute(query).scalar() or "")


def _conclusion(lease_id: str) -> str:
    return f"conclude:{lease_id}"


def _is_concluded(connection: Connection, lease_id: str) -> bool:
    """Return whether a lease was concluded; its note goes when the charge is posted."""
    row = {"request": _conclusion(lease_id)}
    return connection.execute(_CONCLUDED, row).first() is not None


def _noted(connection: Connection, lease_id: str) -> int | None:
    found = connection.execute(_NOTE, {"lease": lease_id}).scalar()
    return None if found is None else int(found)


def _lack(connection: Connection, account_id: str, missing_nusd: int) -> Lack:
    channel = rows.find(connection, subject_of(account_id))
    accepted = channel.accepted if channel else 0
    return Lack(
        missing_nusd=missing_nusd,
        required=required(accepted, missing_nusd=missing_nusd),
        accepted=accepted,
        deposit=channel.deposit if channel else 0,
    )
